"""What /api/distributed/status and /api/distributed/nodes answer; their schemas are in docs/reference/gateway-api.md.

A field is never taken away and never changes its meaning within a version.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import msgspec

from olladist import __version__
from olladist.gateway.control.answers import Row
from olladist.gateway.control.backends import Backend, Role
from olladist.gateway.control.catalog import find_drift, merge_tags
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.roster import Seen
from olladist.gateway.control.waiting import QueueStatus, queue
from olladist.ollama.release import is_version, version_key
from olladist.scheduling.health import State

Count = Annotated[int, msgspec.Meta(ge=0)]


class NodeCounts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nodes by state. `degraded` ones get work only where no `up` one can take it."""

    total: Count
    up: Count
    degraded: Count
    down: Count


class Requests(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tries since the control process started: `granted` and `refused` by the gateway, the others by how they ended.

    A request that was tried on two nodes counts twice. `retryable`: an answer that another node may better; `connect`: no connection;
    `died`: it ended before the first byte; `cut`: it ended in the middle; `left`: the client went away.
    """

    granted: Count
    refused: Count
    served: Count
    retryable: Count
    connect: Count
    died: Count
    cut: Count
    left: Count


class WorkerProcess(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    number: Count
    pid: Count


class DriftingModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A name that means different contents on different nodes: digest to the nodes that hold it."""

    name: str
    digests: dict[str, tuple[str, ...]]


class DecidedBy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who has set what: the administrator at run time before the environment before the inventory."""

    mode: Literal["inventory", "environment", "administrator"]
    fallback: Literal["inventory", "environment", "administrator"]
    local: Literal["inventory", "environment", "administrator"]


class Status(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The gateway as a whole. `slots` are those of all nodes that are not down.

    `fallback` is what stands in, in this order; `local` the URL of the Ollama beside the gateway, empty where there is none;
    `drained` the nodes that get no new work; `keys` how many API keys there are; `waiting` how many requests wait for a backend,
    `queue` for what.
    `versions` are those of Ollama that nodes run; more than one means that nodes may answer differently.
    """

    schema: Literal["olladist.gateway.status"] = "olladist.gateway.status"
    version: Literal[1] = 1
    olladist: str
    ollama: str  # the lowest version of a node that is not down, which /api/version says
    mode: Literal["distributed", "local", "standalone"]
    strategy: str
    transport: str
    listen: str
    uptime_seconds: float
    nodes: NodeCounts
    slots: Count
    in_flight: Count
    models: Count
    requests: Requests
    workers: tuple[WorkerProcess, ...]
    drift: tuple[DriftingModel, ...]
    decided_by: DecidedBy
    fallback: tuple[Literal["local", "cache"], ...]
    local: str
    drained: tuple[str, ...]
    keys: Count
    waiting: Count
    queue: QueueStatus
    versions: dict[str, tuple[str, ...]]


class NodeModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model in a node's store. `warm`: its content is in memory; `in_flight`: requests of this gateway that run on it there."""

    name: str
    digest: str
    size: Count
    modified_at: str
    warm: bool
    in_flight: Count


class LoadedModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model in a node's memory, as its /api/ps says; `size_vram` below `size` means that a part runs on the CPU."""

    name: str
    digest: str
    size: Count
    size_vram: Count
    expires_at: str
    context_length: Count | None


class Node(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One Ollama of the fleet. `reason` says why it is not up; `state_seconds` for how long it has been in its state.

    `listing_problem` says why `loaded` may be old. `models` and `loaded` of a node that is down are what was last seen.
    `role`: one of the fleet, or the Ollama beside the gateway. `drained`: it gets no new work.
    """

    name: str
    host: str
    port: Count
    way: Literal["tunnel", "direct", "local"]
    state: Literal["up", "degraded", "down"]
    reason: str
    state_seconds: float
    ollama: str
    slots: Count
    in_flight: Count
    models: tuple[NodeModel, ...]
    loaded: tuple[LoadedModel, ...]
    listing_problem: str
    role: Literal["node", "local"]
    drained: bool


class Nodes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every node of the gateway, in the order of the inventory."""

    schema: Literal["olladist.gateway.nodes"] = "olladist.gateway.nodes"
    version: Literal[1] = 1
    nodes: tuple[Node, ...]


def ollama_version(parts: Parts) -> str:
    """What the fleet says its version is: the lowest of those that are there, for that is what all of them can do."""
    versions = [seen.version for seen in parts.roster.shown().values() if is_version(seen.version)]
    return min(versions, key=version_key, default=parts.version)


def status(parts: Parts, may_use: Callable[[str], bool] = lambda _: True) -> Status:
    """`may_use` says of a model's name whether the caller may know of it."""
    roster, settings = parts.roster, parts.settings
    states = [roster.seen[number].state for number in roster.nodes]
    live, shown = roster.live(), roster.shown()
    listings = {node: [row for row in seen.tags if may_use(row.key)] for node, seen in live.items()}
    tags = {node: [row for row in seen.tags if may_use(row.key)] for node, seen in shown.items()}
    outcomes = parts.dispatcher.outcomes
    return Status(
        olladist=__version__,
        ollama=ollama_version(parts),
        mode=roster.serving.mode.value,
        strategy=parts.declared.now.strategy.value,
        transport=parts.declared.now.transport.value,
        listen=settings.address,
        uptime_seconds=_age(parts, parts.started),
        nodes=NodeCounts(
            total=len(states),
            up=states.count(State.UP),
            degraded=states.count(State.DEGRADED),
            down=states.count(State.DOWN),
        ),
        slots=sum(backend.slots for backend in roster.nodes.values() if backend.node in live),
        in_flight=parts.dispatcher.ledger.total,
        models=len(merge_tags(tags)),
        requests=Requests(**{field: outcomes[field] for field in Requests.__struct_fields__}),
        workers=tuple(
            WorkerProcess(number=worker.hello.worker, pid=worker.hello.pid)
            for worker in parts.leases.workers.values()
            if worker.hello
        ),
        drift=tuple(DriftingModel(name=drift.name, digests=dict(drift.digests)) for drift in find_drift(listings)),
        decided_by=DecidedBy(**{what: source.value for what, source in roster.serving.sources.items()}),
        fallback=tuple(fallback.value for fallback in roster.serving.fallback),
        local=roster.serving.local,
        drained=tuple(backend.node for backend in roster.nodes.values() if backend.node in roster.drained),
        keys=len(parts.keys.known),
        waiting=parts.leases.waiting,
        queue=queue(parts, may_use),
        versions=_versions(live),
    )


def _versions(live: Mapping[str, Seen]) -> dict[str, tuple[str, ...]]:
    nodes: dict[str, list[str]] = {}
    for node, seen in live.items():
        nodes.setdefault(seen.version, []).append(node)
    return {version: tuple(run) for version, run in sorted(nodes.items())}


def nodes(parts: Parts, may_use: Callable[[str], bool] = lambda _: True) -> Nodes:
    """`may_use` as for status."""
    seen = parts.roster.seen
    return Nodes(nodes=tuple(_node(parts, backend, seen[n], may_use) for n, backend in parts.roster.backends.items()))


def _node(parts: Parts, backend: Backend, seen: Seen, may_use: Callable[[str], bool]) -> Node:
    running = parts.dispatcher.ledger.models_in_flight(backend.id)
    return Node(
        name=backend.node,
        host=backend.host.name,
        port=backend.port,
        way=backend.way,
        state=seen.state.value,
        reason=seen.health.why,
        state_seconds=_age(parts, seen.since),
        ollama=seen.version,
        slots=backend.slots,
        in_flight=parts.dispatcher.ledger.in_flight.get(backend.id, 0),
        models=tuple(_model(row, seen, running) for row in seen.tags if may_use(row.key)),
        loaded=tuple(_loaded(row) for row in seen.loaded if may_use(row.key)),
        listing_problem=seen.loaded_problem,
        role="local" if backend.role is Role.LOCAL else "node",
        drained=backend.node in parts.roster.drained,
    )


def _model(row: Row, seen: Seen, running: dict[str, int]) -> NodeModel:
    return NodeModel(
        name=row.fields["name"],
        digest=row.digest,
        size=row.fields.get("size", 0),
        modified_at=row.fields["modified_at"],
        warm=row.key in seen.warm,
        in_flight=running.get(row.key, 0),
    )


def _loaded(row: Row) -> LoadedModel:
    fields: Any = row.fields
    return LoadedModel(
        name=fields["name"],
        digest=row.digest,
        size=fields.get("size", 0),
        size_vram=fields.get("size_vram", 0),
        expires_at=fields["expires_at"],
        context_length=fields.get("context_length"),
    )


def _age(parts: Parts, since: float) -> float:
    return round(parts.now() - since, 3)
