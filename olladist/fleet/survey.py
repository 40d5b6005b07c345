"""One host as it is and as it shall be: what every command that looks at Ollama begins with."""

from dataclasses import dataclass

from olladist.errors import OlladistError
from olladist.host.artifacts import Artifacts
from olladist.host.desired import Desired, choose, desired
from olladist.host.facts import gather
from olladist.host.found import Facts
from olladist.host.tarball import Release
from olladist.inventory.model import Host, Inventory
from olladist.modelstore.contents import StorePlace
from olladist.ollama.release import LATEST, is_version, normalise
from olladist.ssh.runner import Runner

# The name of a release that is not there and that nobody has looked for. No folder of a release is called so.
UNKNOWN = "none"


@dataclass(frozen=True, slots=True)
class Survey:
    host: Host
    facts: Facts
    desired: Desired

    @property
    def store(self) -> StorePlace:
        """Where its models lie, and as whom they are changed."""
        store = self.desired.store
        return StorePlace(store.path, self.desired.root, f"{store.owner}:{store.group}")


async def survey(runner: Runner, host: Host, inventory: Inventory, artifacts: Artifacts) -> Survey:
    """With the release that the host shall have, found out for good: may ask the mirror."""
    facts = await gather(runner, host)
    return Survey(host, facts, desired(host, facts, inventory, await artifacts.release(host, facts)))


async def glance(
    runner: Runner, host: Host, inventory: Inventory, artifacts: Artifacts, *, ask_sudo: bool = True
) -> Survey:
    """Without asking any network for releases: enough to tell what is there and whether it is the wanted one."""
    facts = await gather(runner, host, ask_sudo=ask_sudo)
    return Survey(host, facts, desired(host, facts, inventory, await _release_seen(host, facts, artifacts)))


async def _release_seen(host: Host, facts: Facts, artifacts: Artifacts) -> Release | None:
    """What the host has of what is wanted; a release called UNKNOWN where it has nothing of it."""
    choice = choose(host, facts)
    if choice.adopted is not None:
        return None
    if host.ollama == LATEST or is_version(host.ollama):
        version = "" if host.ollama == LATEST else normalise(host.ollama)
        return Release(choice.installed or UNKNOWN, version if choice.installed else "")
    if "://" in host.ollama and not _any_release(facts, choice.prefix):
        return Release(UNKNOWN, "")
    try:
        return await artifacts.release(host, facts)
    except OlladistError:
        # The tarball is gone or the mirror is down: a reason to fail for `up`, not for looking.
        return Release(_current(facts, choice.prefix) or UNKNOWN, "")


def _any_release(facts: Facts, prefix: str) -> bool:
    ours = facts.prefixes.get(prefix)
    return ours is not None and bool(ours.releases)


def _current(facts: Facts, prefix: str) -> str:
    ours = facts.prefixes.get(prefix)
    return ours.current if ours is not None else ""
