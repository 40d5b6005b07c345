"""What /api/distributed/status and /api/distributed/nodes answer; their schemas are in docs/reference/gateway-api.md.

A field is never taken away and never changes its meaning within a version.
"""

from typing import Annotated, Any, Literal

import msgspec

from olladist import __version__
from olladist.gateway.control.answers import Row
from olladist.gateway.control.backends import Backend
from olladist.gateway.control.catalog import find_drift, merge_tags
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.roster import Seen
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


class Status(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The gateway as a whole. `slots` are those of all nodes that are not down."""

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


class Nodes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every node of the gateway, in the order of the inventory."""

    schema: Literal["olladist.gateway.nodes"] = "olladist.gateway.nodes"
    version: Literal[1] = 1
    nodes: tuple[Node, ...]


def ollama_version(parts: Parts) -> str:
    """What the fleet says its version is: the lowest of those that are there, for that is what all of them can do."""
    versions = [seen.version for seen in parts.roster.live().values() if is_version(seen.version)]
    return min(versions, key=version_key, default=parts.version)


def status(parts: Parts) -> Status:
    roster, settings = parts.roster, parts.settings
    states = [seen.state for seen in roster.seen.values()]
    live = roster.live()
    listings = {node: seen.tags for node, seen in live.items()}
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
        slots=sum(backend.slots for backend in roster.backends.values() if backend.node in live),
        in_flight=parts.dispatcher.ledger.total,
        models=len(merge_tags(listings)),
        requests=Requests(**{field: outcomes[field] for field in Requests.__struct_fields__}),
        workers=tuple(
            WorkerProcess(number=worker.hello.worker, pid=worker.hello.pid)
            for worker in parts.leases.workers.values()
            if worker.hello
        ),
        drift=tuple(DriftingModel(name=drift.name, digests=dict(drift.digests)) for drift in find_drift(listings)),
    )


def nodes(parts: Parts) -> Nodes:
    seen = parts.roster.seen
    return Nodes(nodes=tuple(_node(parts, backend, seen[n]) for n, backend in parts.roster.backends.items()))


def _node(parts: Parts, backend: Backend, seen: Seen) -> Node:
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
        models=tuple(_model(row, seen, running) for row in seen.tags),
        loaded=tuple(_loaded(row) for row in seen.loaded),
        listing_problem=seen.loaded_problem,
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
