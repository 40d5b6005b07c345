"""`logs`: what Ollama says on all hosts, line by line as it comes."""

from collections.abc import Callable

from olladist.errors import HostError
from olladist.fleet.open import Fleet
from olladist.fleet.survey import glance
from olladist.host.artifacts import Artifacts
from olladist.host.service.choose import logs_command
from olladist.inventory.model import Host
from olladist.ssh.runner import Runner


async def logs(
    fleet: Fleet, tell: Callable[[str, str], None], *, lines: int, follow: bool
) -> dict[str, int | HostError]:
    """Calls `tell` with host and line; with `follow` until it is cancelled. The result counts the lines of each host."""
    artifacts = Artifacts(fleet.inventory)

    async def one(runner: Runner, host: Host) -> int:
        seen = await glance(runner, host, fleet.inventory, artifacts)
        script, root = logs_command(seen.facts, seen.desired, lines=lines, follow=follow)
        count = 0
        async for line in runner.lines(script, root=root):
            tell(host.name, line.decode(errors="replace"))
            count += 1
        return count

    # Following ends with the person: every host at once, or those beyond the limit would never be heard.
    return await fleet.each(one, limit=max(len(fleet.hosts), 1))
