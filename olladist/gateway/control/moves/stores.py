"""The model stores of hosts, as the control process reaches them: over SSH, with nobody there to answer a question."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from olladist.errors import HostError, OlladistError, SudoRefused
from olladist.fleet.events import Watch, unwatched
from olladist.fleet.models import ModelPlan, Stores, read_stores, sync_models
from olladist.fleet.open import Fleet
from olladist.fleet.results import failures, values
from olladist.gateway.control.declared import Declared
from olladist.modelstore.bring import Wanted, bring
from olladist.modelstore.contents import StoreContents
from olladist.modelstore.plan import SyncPlan
from olladist.modelstore.source import Sources
from olladist.ollama.manifest import Layer
from olladist.ssh.connections import Connections

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Opened:
    """Hosts whose stores have been read, connected for as long as they are open; `problems` are of those that could not be."""

    fleet: Fleet
    stores: Stores

    @property
    def contents(self) -> dict[str, StoreContents]:
        return {host: seen.contents for host, seen in values(self.stores).items()}

    @property
    def problems(self) -> dict[str, HostError]:
        return failures(self.stores)

    async def carry_out(self, plan: SyncPlan) -> dict[str, HostError | None]:
        """Does the steps of a plan, hosts side by side; None for a host on which all is done."""
        return await sync_models(self.fleet, ModelPlan(self.stores, Sources(), plan))

    async def bring(self, goal: str, wanted: Sequence[Wanted], on_progress: Callable[[Layer, int], None]) -> None:
        """Copies single blobs to a host; HostError for the first that fails."""
        places = {host: seen.survey.store for host, seen in values(self.stores).items()}
        await bring(wanted, goal, self.fleet.connected, places, on_progress=on_progress)


class HostStores:
    """Opens stores, and holds what goes on in the background when a client has left; `close` ends that.

    `moving` is for whoever changes stores: one at a time, for two would refuse each other on a host that both want.
    """

    def __init__(self, connections: Connections, declared: Declared) -> None:
        self._connections = connections
        self._declared = declared
        self._tasks: set[asyncio.Task[None]] = set()
        self.moving = asyncio.Lock()

    @asynccontextmanager
    async def opened(self, names: Collection[str], watch: Watch = unwatched) -> AsyncIterator[Opened]:
        """These hosts of the inventory; one that it no longer has is left out."""
        inventory = self._declared.inventory
        hosts = tuple(inventory.hosts[name] for name in dict.fromkeys(names) if name in inventory.hosts)
        fleet = Fleet(inventory, hosts, self._connections, watch)
        try:
            yield Opened(fleet, await read_stores(fleet, hosts, ask_sudo=False))
        finally:
            await asyncio.gather(*(runner.close() for runner in fleet.connected.values()))

    def start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Goes on whoever leaves; what fails in it is logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def close(self) -> None:
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("work on model stores ended", error=repr(error), exc_info=error)


def why(error: OlladistError) -> str:
    """The cause for a line of progress, with what to do where only a person can do it."""
    cause = error.cause if isinstance(error, HostError) else error.message
    if isinstance(error, SudoRefused):
        return (
            f"{cause}; the gateway has nobody to ask for a password: declare the model and run `olladist models sync`"
        )
    return f"{cause} ({error.hint})" if error.hint else cause
