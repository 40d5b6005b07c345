"""Single blobs from host to host, for a model that is not there yet and will be made of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from olladist.modelstore.contents import StorePlace
from olladist.modelstore.relay import Relay
from olladist.modelstore.stage import Stage
from olladist.ollama.manifest import Layer
from olladist.ssh.runner import Runner


@dataclass(frozen=True, slots=True)
class Wanted:
    """A blob, and the host that has it."""

    blob: Layer
    holder: str


async def bring(
    wanted: Sequence[Wanted],
    goal: str,
    runners: Mapping[str, Runner],
    stores: Mapping[str, StorePlace],
    *,
    on_progress: Callable[[Layer, int], None] = lambda blob, done: None,
    spool: Path | None = None,
) -> None:
    """Puts blobs into the store of `goal`, each verified before it has its name; HostError for the first that fails.

    `on_progress` gets a blob and the bytes of it that have come; those on their way to this machine count half.
    """
    relay = Relay(runners, stores, spool)
    stage = Stage(runners[goal], stores[goal])
    holders = {each.blob.digest: each.holder for each in wanted}
    try:
        async with stage.held():
            for blob, staged in await stage.lacking(each.blob for each in wanted):

                def half(got: int, blob: Layer = blob, staged: int = staged) -> None:
                    on_progress(blob, (got + staged) // 2)

                def arrived(here: int, blob: Layer = blob) -> None:
                    on_progress(blob, (blob.size + here) // 2)

                async with relay.fetched(holders[blob.digest], blob, goal, half) as path:
                    await stage.receive(blob, path, staged, arrived)
    finally:
        relay.close()
