"""The backends as a worker knows them: what the last table says, and what is the worker's own: connections and running requests."""

from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from typing import Final, Protocol, TypeAlias

from olladist.gateway.edge.asked import Wants
from olladist.gateway.edge.upstream import Pool
from olladist.gateway.lease import Backend as Row
from olladist.gateway.lease import Grant, Table, Use
from olladist.ollama.names import split_name
from olladist.ollama.routes import Route

# Requests that are alike for whoever places them: model, route, wants, conversation, options. A plain tuple, for each request makes one.
Kind: TypeAlias = tuple[str, str, Wants, int, str]


def kind_of(model: str, route: Route, wants: Wants, near: int, options: str, *, begins: bool) -> Kind:
    """A conversation that only begins is as near to one host as to the other."""
    return model, route.name, wants, 0 if begins else near, options


class Lent:
    """A lease that may serve more than one request; `since` is when it became idle, `uses` are those that were not told of.

    `recalled`: the request that it serves is its last.
    """

    __slots__ = ("backend", "grant", "granted", "kind", "lease", "recalled", "since", "uses")

    def __init__(self, lease: int, backend: "Backend", kind: Kind, now: float) -> None:
        self.lease = lease
        self.backend = backend
        self.kind = kind
        self.grant = Grant(lease, backend.id)  # for whoever uses it again
        self.granted = self.since = now
        self.uses: list[Use] = []
        self.recalled = False


class Asker(Protocol):
    """A request that needs a backend. `lease` is the id of its last Ask; `tried` names nodes, for ids are only good for one table."""

    lease: int
    model: str
    tried: list[str]
    only: str  # as Ask's
    near: int  # the conversation, as Ask's affinity
    begins: bool  # as Ask's
    options: str  # as Ask's
    load: bool  # as Ask's
    kind: Kind
    asked_at: float  # when it was asked for first, of the loop's clock
    lent: Lent | None  # its lease, where that may be used again

    @property
    def route(self) -> Route: ...

    @property
    def wants(self) -> Wants: ...

    def granted(self, backend: "Backend", grant: Grant) -> None: ...

    def refused(self, status: int, text: str, retry_after: int) -> None: ...

    def backend_went_down(self) -> None: ...


class Backend:
    """`slots` are those that one of `workers` may fill while it is alone: together they have them all, and fewer than `workers` more."""

    __slots__ = ("_workers", "address", "fields", "id", "models", "node", "pool", "role", "running", "slots", "up")

    def __init__(self, row: Row, mode: str, workers: int = 1) -> None:
        self._workers = workers
        # The worker's own. `running` counts from the grant to the end of the response.
        self.pool = Pool()
        self.running: set[Asker] = set()
        # What a table says.
        self.node = row.node
        self.role = row.role
        self.address = ""
        self.update(row, mode)

    def update(self, row: Row, mode: str) -> None:
        if not row.up or row.address != self.address:
            self.pool.close()
            self.pool = Pool()
            self.address = row.address
        self.id = row.id
        self.role = row.role
        self.up = row.up
        self.slots = -(-row.slots // self._workers)
        self.models = frozenset(row.models)
        self.fields = b"X-Ollama-Node: %b\r\n" % field_value(row.node) + mode_fields(mode)

    def is_full(self, key: str) -> bool:
        """Whether this worker fills its part of the slots for the model; the Ollama beside the gateway takes all there is."""
        return self.role == "node" and sum(key_of(asker.model) == key for asker in self.running) >= self.slots


class Backends:
    """Those of one of `workers`. `mode` is "" until there was a table."""

    def __init__(self, workers: int = 1) -> None:
        self._workers = workers
        self.mode = ""
        self.late = False  # as Table's
        self._by_node: dict[str, Backend] = {}
        self._by_id: dict[int, Backend] = {}

    def __iter__(self) -> Iterator[Backend]:
        return iter(self._by_node.values())

    def get(self, number: int) -> Backend | None:
        return self._by_id.get(number)

    def ids(self, nodes: Iterable[str]) -> tuple[int, ...]:
        """The ids that these nodes have now; those that are gone are left out."""
        return tuple(self._by_node[node].id for node in nodes if node in self._by_node)

    def apply(self, table: Table) -> list[Backend]:
        """Takes over a table whole; returns the backends that it has found to be down.

        What runs on a backend that is no longer listed ends by itself.
        """
        known, self._by_node = self._by_node, {}
        went_down = []
        for row in table.backends:
            backend = known.pop(row.node, None)
            if backend is None:
                backend = Backend(row, table.mode, self._workers)
            else:
                if backend.up and not row.up:
                    went_down.append(backend)
                backend.update(row, table.mode)
            self._by_node[row.node] = backend
        for gone in known.values():
            gone.up = False
            gone.pool.close()
        self._by_id = {backend.id: backend for backend in self._by_node.values()}
        self.mode = table.mode
        self.late = table.late
        return went_down


# Whom a worker that places alone asks, in this order, and what it says of those after the first.
_ROLES: Final = {"distributed": ("node", "local"), "local": ("local", "node"), "standalone": ("local",)}
_FALLBACKS: Final = {"node": "nodes", "local": "local"}
_ALONE: Final = "the gateway's control process is away, and no other host with the model can be reached"


@lru_cache(maxsize=4096)
def key_of(model: str) -> str:
    """The normalised name; of what is no name, something that no backend lists."""
    return split_name(model).key


def place(
    backends: Iterable[Backend], mode: str, key: str, tried: Collection[str], only: str = "", *, late: bool = False
) -> tuple[Backend, str, str] | None:
    """Where a worker sends a request for the model `key` while nobody tells it, with Grant's `fallback` and `reason`.

    By its own counts, the first among equals; where it is to be `late`, one that is full only if all are. Kept answers are the
    control process' to give. The table may be old: when nobody else is left, what was down then is tried.
    """
    holders = [b for b in backends if b.node not in tried and key in b.models]
    first, *others = _ROLES.get(mode, _ROLES["distributed"])
    roles = {"": (first, *others), "fallback": tuple(others)}.get(only, ())
    for up in (True, False):
        for role in roles:
            if those := [backend for backend in holders if backend.up is up and backend.role == role]:
                backend = min(those, key=lambda backend: (late and backend.is_full(key), len(backend.running)))
                return (backend, "", "") if role == first else (backend, _FALLBACKS[role], _ALONE)
    return None


def mode_fields(mode: str) -> bytes:
    """The header lines that every response carries; before there was a table the mode is not known yet."""
    shown = field_value(mode) or b"distributed"
    return b"X-Ollama-Distributed: %b\r\nX-Ollama-Mode: %b\r\n" % (
        b"true" if shown == b"distributed" else b"false",
        shown,
    )


def grant_fields(grant: Grant) -> bytes:
    """The header lines of an answer that has waited, or is not from where the mode would have it; none for any other."""
    if not (grant.position or grant.fallback):
        return b""
    waited = b"X-Ollama-Queue-Position: %d\r\n" % grant.position if grant.position else b""
    if not grant.fallback:
        return waited
    return waited + b"X-Ollama-Fallback: %b\r\nX-Ollama-Fallback-Reason: %b\r\n" % (
        field_value(grant.fallback),
        field_value(grant.reason),
    )


def field_value(text: str) -> bytes:
    # Names come from an inventory that was checked, reasons may quote a backend; a line break here would still be a header of its own.
    return "".join(char for char in text if char.isprintable()).encode("ascii", "replace")
