"""`exec`: one command on every host, and its answers with the same answers together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from olladist.errors import HostError
from olladist.fleet.events import Doing, Finished
from olladist.fleet.open import Fleet
from olladist.inventory.model import Host
from olladist.ssh.runner import Completed, Runner
from olladist.ssh.words import words


@dataclass(frozen=True, slots=True)
class Answer:
    """What these hosts all said alike."""

    hosts: tuple[str, ...]
    status: int
    stdout: str
    stderr: str


def script_of(command: Sequence[str]) -> str:
    """One word is a line of shell, as with ssh; several are a program and its arguments, each passed on as it is."""
    return command[0] if len(command) == 1 else words(*command)


async def execute(
    fleet: Fleet, command: Sequence[str], *, root: bool = False, timeout: float | None = None
) -> dict[str, Completed | HostError]:
    """What `command` came to on each host; a status other than 0 is a result like any other."""
    script = script_of(command)

    async def one(runner: Runner, host: Host) -> Completed:
        fleet.tell(Doing(host.name, script))
        completed = await runner.run(script, root=root, timeout=timeout, during=f"running {script}")
        fleet.tell(Finished(host.name, ""))
        return completed

    return await fleet.each(one)


def folded(results: Mapping[str, Completed]) -> tuple[Answer, ...]:
    """Hosts with the same status and the same output together, in the order of the first of each."""
    same: dict[tuple[int, str, str], list[str]] = {}
    for host, completed in results.items():
        same.setdefault((completed.status, completed.stdout, completed.stderr), []).append(host)
    return tuple(Answer(tuple(hosts), *said) for said, hosts in same.items())
