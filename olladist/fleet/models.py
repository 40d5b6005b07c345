"""`models`: what the stores of all hosts hold, what differs from the inventory, and bringing it there."""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from olladist.errors import HostError
from olladist.fleet.events import HERE, Doing, Failed, Finished, Moving
from olladist.fleet.open import Fleet
from olladist.fleet.results import values
from olladist.fleet.survey import Survey, glance
from olladist.host.api import OllamaAPI
from olladist.host.artifacts import Artifacts
from olladist.inventory.model import Host
from olladist.modelstore.contents import StoreContents
from olladist.modelstore.list import ModelRow, rows
from olladist.modelstore.plan import SyncPlan, plan_sync
from olladist.modelstore.scan import scan
from olladist.modelstore.source import Sources, read_sources
from olladist.modelstore.steps import Step
from olladist.modelstore.transfer import sync
from olladist.ssh.runner import Runner


@dataclass(frozen=True, slots=True)
class Seen:
    """A host and what its store holds."""

    survey: Survey
    contents: StoreContents


Stores: TypeAlias = Mapping[str, Seen | HostError]


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """A plan for the chosen hosts; `stores` is of every host that matters to it, the others as holders only."""

    stores: Stores
    sources: Sources
    plan: SyncPlan


async def read_stores(
    fleet: Fleet, hosts: Collection[Host], known: Mapping[str, Survey] = MappingProxyType({}), *, ask_sudo: bool = True
) -> Stores:
    """What each of `hosts` is and what its store holds; a survey that is known is not made again.

    Where nobody can be asked for sudo's password (`ask_sudo` False) a store that needs it is SudoRefused.
    """
    artifacts = Artifacts(fleet.inventory)

    async def one(runner: Runner, host: Host) -> Seen:
        fleet.tell(Doing(host.name, "reading the model store"))
        found = known.get(host.name) or await glance(runner, host, fleet.inventory, artifacts, ask_sudo=ask_sudo)
        seen = Seen(found, await scan(runner, found.store))
        fleet.tell(Finished(host.name, ""))
        return seen

    return await fleet.each(one, hosts=tuple(hosts))


async def read_models(fleet: Fleet) -> Sources:
    """What the declared models are made of; hashing a large file says how far it is."""

    def on_hash(path: Path, done: int, total: int) -> None:
        fleet.tell(Moving(HERE, f"reading {path.name}", done, total))

    try:
        return await read_sources(fleet.inventory, on_hash=on_hash)
    finally:
        fleet.tell(Finished(HERE, ""))


@dataclass(frozen=True, slots=True)
class Listing:
    """The models of the chosen hosts. `stores` has an error for a chosen host that could not be read."""

    rows: tuple[ModelRow, ...]
    stores: Stores


async def list_models(fleet: Fleet) -> Listing:
    """Every model on every chosen host; the others are asked too, as which version is right is decided by all."""
    sources = await read_models(fleet)
    stores = await read_stores(fleet, fleet.inventory.hosts.values())
    contents = {host: seen.contents for host, seen in values(stores).items()}
    chosen = {host.name for host in fleet.hosts}
    found = rows(fleet.inventory, contents, sources)
    return Listing(
        tuple(row for row in found if row.host in chosen),
        {host: seen for host, seen in stores.items() if host in chosen},
    )


async def plan_models(fleet: Fleet, known: Mapping[str, Survey] = MappingProxyType({})) -> ModelPlan:
    """What brings the declared models to the chosen hosts; the other hosts are asked too, as a blob may come from there."""
    sources = await read_models(fleet)
    stores = await read_stores(fleet, fleet.inventory.hosts.values(), known)
    return ModelPlan(stores, sources, planned(fleet, stores, sources))


def planned(fleet: Fleet, stores: Stores, sources: Sources) -> SyncPlan:
    """Pure: the same stores and sources give the same plan."""
    contents = {host: seen.contents for host, seen in values(stores).items()}
    return plan_sync(fleet.inventory, contents, sources, limit={host.name for host in fleet.hosts})


def replanned(fleet: Fleet, plan: ModelPlan, usable: Collection[str]) -> ModelPlan:
    """The plan without the chosen hosts that have turned out not to be usable."""
    chosen = {host.name for host in fleet.hosts}
    stores = {host: seen for host, seen in plan.stores.items() if host in usable or host not in chosen}
    return ModelPlan(stores, plan.sources, planned(fleet, stores, plan.sources))


async def sync_models(fleet: Fleet, plan: ModelPlan) -> dict[str, HostError | None]:
    """Carries out the plan; None: all that was to be done on that host is done."""
    seen = values(plan.stores)
    runners = {host: fleet.connected[host] for host in seen}

    @asynccontextmanager
    async def api(host: str) -> AsyncIterator[OllamaAPI]:
        port = seen[host].survey.desired.servers[0].port
        async with runners[host].reach(port) as endpoint, OllamaAPI(endpoint, host) as opened:
            yield opened

    def on_step(step: Step) -> None:
        fleet.tell(Doing(step.host, step.describe(), 1, 1))

    outcomes = await sync(
        plan.plan,
        runners,
        {host: each.survey.store for host, each in seen.items()},
        api,
        on_progress=lambda host, model, done, total: fleet.tell(Moving(host, model, done, total)),
        on_step=on_step,
    )
    for host, error in outcomes.items():
        fleet.tell(Finished(host, "models are as declared") if error is None else Failed(host, error))
    return outcomes
