"""What GET /api/distributed/models answers: each model, who has it, in which contents, and where it should be.

A field is never taken away and never changes its meaning within a version.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import msgspec

from olladist.gateway.control.answers import Row
from olladist.gateway.control.backends import Role
from olladist.gateway.control.catalog import find_drift
from olladist.gateway.control.models.targets import Store, placement, pull_targets, stores
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.roster import Roster
from olladist.gateway.control.uploads.unspread import Unspread
from olladist.gateway.control.waiting import lanes
from olladist.ollama.names import parse_name

Count = Annotated[int, msgspec.Meta(ge=0)]


class Content(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One content that goes by the name, as /api/tags of the nodes that have it says; `details` are Ollama's own."""

    digest: str
    nodes: tuple[str, ...]
    size: Count
    modified_at: str
    details: dict[str, Any]


class InMemory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the model is loaded, as /api/ps of that node says."""

    node: str
    digest: str
    size: Count
    size_vram: Count
    expires_at: str
    context_length: Count | None


class Declared(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the inventory wants: the model on all of `hosts`, or on `replicas` of them.

    `missing` are the hosts that should have it and have not, `surplus` those that have it and need not.
    """

    hosts: tuple[str, ...]
    replicas: Count | None
    missing: tuple[str, ...]
    surplus: tuple[str, ...]


class Due(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change that is remembered, because nobody could be asked there: it is done when they are back.

    `where` is a node for `delete` and `copy` (under another name), a host for `bring` (from another host).
    """

    what: Literal["delete", "copy", "bring"]
    where: str


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One name. `drift`: nodes of the fleet that can be reached have several contents under it.

    `contents` and `loaded` name nodes that are down too, with what was last seen there. `in_flight` counts requests of this
    gateway by node. `declared` is null for a model that is not in the inventory. `waiting` requests wait for its contents, by whichever
    name and with whatever options, and one more without any would wait for `estimated_wait` seconds; null where that is not known.
    """

    name: str
    contents: tuple[Content, ...]
    drift: bool
    loaded: tuple[InMemory, ...]
    in_flight: dict[str, Count]
    waiting: Count
    estimated_wait: float | None
    declared: Declared | None
    due: tuple[Due, ...]


class Models(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every model that a node has, that the inventory declares, or that something is still to be done about, by name."""

    schema: Literal["olladist.gateway.models"] = "olladist.gateway.models"
    version: Literal[1] = 1
    models: tuple[Model, ...]


def models(parts: Parts, may_use: Callable[[str], bool]) -> Models:
    """`may_use` says of a normalised name whether the caller may know of it."""
    roster = parts.roster
    drifting = {parse_name(drift.name).key for drift in find_drift({n: s.tags for n, s in roster.live().items()})}
    due = _due(parts)
    keys = {key for seen in roster.seen.values() for key in seen.keys}
    keys |= {model.name.key for model in parts.declared.inventory.models} | due.keys()
    tags, loaded = _by_key(roster, "tags"), _by_key(roster, "loaded")
    found = stores(roster, Role.NODE, "")
    waiting, waits = _queued(parts)
    return Models(
        models=tuple(
            Model(
                name=str(parse_name(key)),
                contents=_contents(tags.get(key, {})),
                drift=key in drifting,
                loaded=tuple(_in_memory(node, row) for node, row in sorted(loaded.get(key, {}).items())),
                in_flight=_in_flight(parts, key),
                waiting=waiting[key],
                estimated_wait=waits.get(key),
                declared=_declared(parts, key, found, tags.get(key, {})),
                due=due.get(key, ()),
            )
            for key in sorted(keys)
            if may_use(key)
        )
    )


def _by_key(roster: Roster, field: Literal["tags", "loaded"]) -> dict[str, dict[str, Row]]:
    found: dict[str, dict[str, Row]] = {}
    for number, backend in roster.backends.items():
        for row in getattr(roster.seen[number], field):
            found.setdefault(row.key, {})[backend.node] = row
    return found


def _contents(rows: Mapping[str, Row]) -> tuple[Content, ...]:
    """What most nodes have comes first."""
    nodes: dict[str, list[str]] = {}
    for node, row in sorted(rows.items()):
        nodes.setdefault(row.digest, []).append(node)
    return tuple(
        Content(
            digest=digest,
            nodes=tuple(held),
            size=rows[held[0]].fields.get("size", 0),
            modified_at=max((rows[node] for node in held), key=lambda row: row.time).fields["modified_at"],
            details=rows[held[0]].fields.get("details") or {},
        )
        for digest, held in sorted(nodes.items(), key=lambda item: (-len(item[1]), item[0]))
    )


def _in_memory(node: str, row: Row) -> InMemory:
    fields = row.fields
    return InMemory(
        node=node,
        digest=row.digest,
        size=fields.get("size", 0),
        size_vram=fields.get("size_vram", 0),
        expires_at=fields["expires_at"],
        context_length=fields.get("context_length"),
    )


def _in_flight(parts: Parts, key: str) -> dict[str, int]:
    backends = parts.roster.backends
    running = parts.dispatcher.ledger.in_flight_model(key)
    return {backends[number].node: count for number, count in sorted(running.items()) if number in backends}


def _queued(parts: Parts) -> tuple[Counter[str], dict[str, float]]:
    """By name: how many wait, and for how long one more would."""
    waiting, waits = Counter[str](), dict[str, float]()
    for lane in lanes(parts):
        for key in lane.names:
            waiting[key] += lane.waiting
            if lane.wait is not None and not lane.options:
                waits[key] = round(lane.wait, 3)
    return waiting, waits


def _declared(parts: Parts, key: str, found: Sequence[Store], rows: Mapping[str, Row]) -> Declared | None:
    inventory = parts.declared.inventory
    wanted = placement(inventory, key)
    if wanted is None:
        return None
    digests = {store.host: digest for store in found if (digest := _digest(store, rows))}
    kept = [host for host in wanted.hosts if host in digests]
    enough = len(wanted.hosts) if wanted.replicas is None else min(wanted.replicas, len(wanted.hosts))
    missing: tuple[str, ...] = ()
    if len(kept) < enough:  # else nobody need be chosen, which takes time where there are many hosts and models
        now = [replace(store, digest=digests.get(store.host, "")) for store in found]
        names = frozenset(model.name.key for model in inventory.models)
        should = pull_targets(now, wanted, inventory.gateway.replicas, names)
        missing = tuple(store.host for store in (*should.now, *should.away) if not store.digest)
    return Declared(
        hosts=tuple(wanted.hosts),
        replicas=wanted.replicas,
        missing=missing,
        surplus=tuple(host for host in digests if host not in wanted.hosts or host in kept[enough:]),
    )


def _digest(store: Store, rows: Mapping[str, Row]) -> str:
    """What a host has: its Ollamas share one store, and what the best of them says counts."""
    node = store.backends[0].node if store.backends else store.nodes[0]
    return rows[node].digest if node in rows else ""


def _due(parts: Parts) -> dict[str, tuple[Due, ...]]:
    found: dict[str, list[Due]] = {}
    for backend in parts.roster.backends.values():
        for deed in parts.pending.of(backend.node):
            due = Due(what="copy" if deed.source else "delete", where=backend.node)
            found.setdefault(deed.model, []).append(due)
    for owed in Unspread(parts.state).all():
        found.setdefault(owed.model, []).append(Due(what="bring", where=owed.host))
    return {key: tuple(due) for key, due in found.items()}
