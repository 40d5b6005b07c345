"""Which hosts a change of models is for. Pure but for `stores`, which reads the roster.

A host has one store, however many Ollamas run on it: what is to be done there is asked of one of them.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from olladist.gateway.control.backends import Backend, Role
from olladist.gateway.control.roster import Roster
from olladist.inventory.model import Inventory
from olladist.inventory.select import hosts_for
from olladist.modelstore.place import Candidate, choose
from olladist.scheduling.health import State


@dataclass(frozen=True, slots=True)
class Store:
    """The models of one host as they were last seen; `backends` are its Ollamas that can be asked, well ones first.

    `digest` is what it has under the name in question, "" for nothing; `models` are the names of all it has and `size` their bytes.
    """

    host: str
    nodes: tuple[str, ...]
    backends: tuple[Backend, ...] = ()
    digest: str = ""
    size: int = 0
    models: frozenset[str] = frozenset()
    drained: bool = False
    why: str = ""  # none of its Ollamas can be asked


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the inventory wants a model: on all of `hosts`, or on as many of them."""

    hosts: Collection[str]
    replicas: int | None = None


@dataclass(frozen=True, slots=True)
class Targets:
    """Where something is to be done now, and where it should be done too, but nobody can be asked."""

    now: tuple[Store, ...] = ()
    away: tuple[Store, ...] = ()


def stores(roster: Roster, role: Role, key: str) -> list[Store]:
    """One for each host of that role, in the order of the inventory."""
    hosts: dict[str, list[Backend]] = {}
    for number in roster.of_role(role):
        backend = roster.backends[number]
        hosts.setdefault(backend.host.name, []).append(backend)
    return [_store(roster, host, backends, key) for host, backends in hosts.items()]


def _store(roster: Roster, host: str, backends: Sequence[Backend], key: str) -> Store:
    live = [b for b in backends if roster.seen[b.id].state is not State.DOWN]
    live.sort(key=lambda b: (roster.seen[b.id].state is not State.UP, b.id))
    # What the best of them says counts: another one may have been heard of longer ago.
    tags = roster.seen[(live or list(backends))[0].id].tags
    return Store(
        host,
        nodes=tuple(b.node for b in backends),
        backends=tuple(live),
        digest=next((row.digest for row in tags if row.key == key), ""),
        size=sum(row.fields.get("size", 0) for row in tags),
        models=frozenset(row.key for row in tags),
        drained=any(b.node in roster.drained for b in backends),
        why="" if live else roster.seen[backends[0].id].health.why,
    )


def placement(inventory: Inventory, key: str) -> Placement | None:
    """What the inventory says about a model, None where it says nothing."""
    for model in inventory.models:
        if model.name.key == key:
            return Placement(tuple(host.name for host in hosts_for(inventory, model)), model.replicas)
    return None


def holders(found: Iterable[Store]) -> Targets:
    """For a change of what is there."""
    held = [store for store in found if store.digest]
    return Targets(
        tuple(store for store in held if store.backends), tuple(store for store in held if not store.backends)
    )


def pull_targets(
    found: Sequence[Store], wanted: Placement | None, replicas: int, declared: Collection[str] = ()
) -> Targets:
    """For a pull: whoever holds the model, lest one name means two contents; and whoever shall hold it.

    A model that is not declared goes to `replicas` hosts in all, those with the least in their stores first. Hosts that are drained
    get nothing new. `declared` are the names of all declared models: a host with fewer of them comes first where `wanted` leaves
    the choice.
    """
    held = [store.host for store in found if store.digest]
    allowed = [store for store in found if wanted is None or store.host in wanted.hosts]
    if wanted is not None and wanted.replicas is None:
        chosen: Collection[str] = [store.host for store in allowed]
    else:
        number = replicas if wanted is None or wanted.replicas is None else wanted.replicas
        usual = Counter(store.digest for store in found if store.digest).most_common(1)
        candidates = [
            Candidate(
                store.host,
                holds=bool(store.digest),
                agrees=bool(usual) and store.digest == usual[0][0],
                present_bytes=0,
                free_bytes=-store.size,
                models=len(store.models & frozenset(declared)) if wanted else 0,
            )
            for store in allowed
            if store.backends and (store.digest or not store.drained)
        ]
        chosen = choose(candidates, number, 0)
    due = [store for store in found if store.host in held or store.host in chosen]
    return Targets(tuple(store for store in due if store.backends), tuple(store for store in due if not store.backends))
