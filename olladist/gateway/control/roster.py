"""What the gateway knows of its backends now: who there is, who is well, who holds which model and who has it in memory."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from olladist.gateway import lease
from olladist.gateway.control.answers import Row
from olladist.gateway.control.backends import LOCAL_ID, Backend, Role, cache_row
from olladist.gateway.control.modes import Serving
from olladist.scheduling import health
from olladist.scheduling.health import Health, Standing, State


@dataclass(frozen=True, slots=True)
class Seen:
    """What was last seen of one backend; times are of the roster's clock, -1 for never."""

    health: Health = field(default_factory=Health)
    state: State = State.DOWN  # of `health`: each decision asks for it
    version: str = ""
    tags: tuple[Row, ...] = ()
    loaded: tuple[Row, ...] = ()
    keys: frozenset[str] = frozenset()  # the names in `tags`
    digests: Mapping[str, str] = field(default_factory=dict)  # what goes by each of them
    warm: frozenset[str] = (
        frozenset()
    )  # the names in `tags` whose content is in memory, under whichever name it was loaded
    since: float = 0.0  # when its state changed
    tags_read: float = -1.0
    loaded_read: float = -1.0
    clock: float | None = None  # what its own clock showed then, seconds since 1970; None where it does not say
    loaded_problem: str = ""  # why /api/ps could not be read the last time; what was read before stands

    @property
    def is_new(self) -> bool:
        """True until its first good answer."""
        return self.health.standing is Standing.NEW


@dataclass(frozen=True, slots=True)
class Change:
    """`before` is None for a backend that was added, `after` for one that was removed."""

    backend: Backend
    before: Seen | None
    after: Seen | None


# What workers are told instead of a role where there is to be no new work.
DRAINED = "drained"

_NOBODY: frozenset[int] = frozenset()


class Roster:
    """Values about backends, replaced whole; whoever listens is told of each replacement before the next one.

    What is said about a backend that is not there (any more) is ignored: probes and requests outlive a reload. `backends` and
    `seen` hold everybody; `nodes`, `live` and `holders` the fleet alone; `in_play`, `shown` and `able` those who
    answer requests in the present mode.
    """

    def __init__(self, now: Callable[[], float], serving: Serving | None = None) -> None:
        self.now = now
        self.serving = serving or Serving()
        self.cache = ""  # the socket where workers fetch answers that are kept
        self.drained: frozenset[str] = frozenset()  # nodes that get no new work
        self.backends: Mapping[int, Backend] = {}
        self.nodes: Mapping[int, Backend] = {}  # those of the fleet
        self.seen: dict[int, Seen] = {}
        self.listeners: list[Callable[[Change], None]] = []
        self.probe_listeners: list[Callable[[Backend, str], None]] = []  # told of each probe, and its problem
        self.told: list[Callable[[], None]] = []  # called when `serving` or `drained` was replaced
        self._holders: dict[str, set[int]] = {}

    def swap(self, backends: Iterable[Backend]) -> None:
        """From now on there are these and no others; one that is reached as before keeps what is known of it."""
        before, known = self.backends, self.seen
        self.backends = {backend.id: backend for backend in backends}
        self.nodes = {number: backend for number, backend in self.backends.items() if backend.role is Role.NODE}
        same = {n for n, backend in self.backends.items() if n in before and before[n].route == backend.route}
        self.seen = {n: known[n] if n in same else Seen(since=self.now()) for n in self.backends}
        self._holders = {}
        for number in self.nodes:
            for key in self.seen[number].keys:
                self._holders.setdefault(key, set()).add(number)
        for number in before.keys() - same:
            self._tell(Change(before[number], known[number], None))
        for number in self.backends.keys() - same:
            self._tell(Change(self.backends[number], None, self.seen[number]))

    def probed(self, number: int, problem: str, version: str = "", *, silent: bool = False) -> None:
        """After a probe; `problem` is "" for a good one, which says `version`."""
        if seen := self.seen.get(number):
            for listener in self.probe_listeners:
                listener(self.backends[number], problem)
            judged = health.probed(seen.health, problem, silent=silent)
            self._set(number, replace(seen, health=judged, version=version or seen.version))

    def ended(self, number: int, outcome: str) -> None:
        """After a request; `outcome` as in gateway.lease.OUTCOMES."""
        if seen := self.seen.get(number):
            judged = health.ended(seen.health, outcome)
            if judged is not seen.health:  # most requests say nothing new
                self._set(number, replace(seen, health=judged))

    def listing_failed(self, number: int, problem: str) -> None:
        if seen := self.seen.get(number):
            self._set(number, replace(seen, health=health.listed(seen.health, problem)))

    def listed(self, number: int, tags: tuple[Row, ...]) -> None:
        """After its /api/tags was read."""
        if seen := self.seen.get(number):
            now = replace(seen, tags=tags, tags_read=self.now(), health=health.listed(seen.health, ""))
            self._set(number, now if tags is seen.tags else _indexed(now))

    def loaded(self, number: int, rows: tuple[Row, ...], clock: float | None = None) -> None:
        """After its /api/ps was read, with the time of its own clock."""
        if seen := self.seen.get(number):
            now = replace(seen, loaded=rows, loaded_read=self.now(), clock=clock, loaded_problem="")
            self._set(number, now if rows is seen.loaded else _indexed(now))

    def loaded_failed(self, number: int, problem: str) -> None:
        """/api/ps says where a model is warm, not whether a backend works: a failure is shown, and takes nothing away."""
        if seen := self.seen.get(number):
            self._set(number, replace(seen, loaded_problem=problem))

    def forget(self, number: int, key: str) -> None:
        """A backend has said itself that it has not got the model; what it lists next counts again."""
        if (seen := self.seen.get(number)) and key in seen.keys:
            self._set(number, _indexed(replace(seen, tags=tuple(row for row in seen.tags if row.key != key))))

    def serve(self, serving: Serving) -> None:
        """From now on requests are served like this."""
        if serving != self.serving:
            self.serving = serving
            self._tell_all()

    def drain(self, nodes: Collection[str]) -> None:
        """From now on these nodes, and no others, get no new work; what runs there goes on."""
        if self.drained != frozenset(nodes):
            self.drained = frozenset(nodes)
            self._tell_all()

    @property
    def local(self) -> Backend | None:
        """The Ollama beside the gateway, whatever the mode."""
        return self.backends.get(LOCAL_ID)

    def holders(self, key: str) -> Collection[int]:
        """Who of the fleet listed the model when last heard of, whatever its state, in no order."""
        return self._holders.get(key, _NOBODY)

    def starting(self, within: float) -> tuple[int, ...]:
        """Those who answer requests, were added in the last `within` seconds, and have not answered yet."""
        since = self.now() - within
        return tuple(n for n in self.in_play() if self.seen[n].is_new and self.seen[n].since > since)

    def live(self) -> dict[str, Seen]:
        """What is known of the fleet's nodes that are not down, by node."""
        return {backend.node: self.seen[n] for n, backend in self.nodes.items() if self._is_live(n)}

    def of_role(self, role: Role) -> tuple[int, ...]:
        """All of a role, in the order of the inventory."""
        if role is Role.NODE:
            return tuple(self.nodes)
        return (LOCAL_ID,) if role is Role.LOCAL and LOCAL_ID in self.backends else ()

    def in_play(self) -> tuple[int, ...]:
        """Who answers requests in the present mode, the first choice first; whatever their state."""
        return tuple(number for role in self.serving.order for number in self.of_role(role))

    def holders_in_play(self, key: str) -> tuple[int, ...]:
        """Of those, who listed the model when last heard of."""
        nodes = self._holders.get(key, _NOBODY)
        local = LOCAL_ID in self.seen and key in self.seen[LOCAL_ID].keys
        order = self.serving.order
        return (*(nodes if Role.NODE in order else ()), *((LOCAL_ID,) if local and Role.LOCAL in order else ()))

    def able(self, numbers: Iterable[int]) -> list[Backend]:
        """Of these, who can be asked now: the mode's first choice first, then those that are well. For requests that take no slot."""
        order = self.serving.order
        live = [n for n in numbers if n in self.seen and self._is_live(n) and self.backends[n].role in order]
        live.sort(key=lambda n: (order.index(self.backends[n].role), self.seen[n].state is not State.UP, n))
        return [self.backends[n] for n in live]

    def shown_role(self) -> Role:
        """Whose models are listed: the first choice, or what stands in for it where nobody of it can be reached."""
        order = self.serving.order
        live = (role for role in order if any(self._is_live(n) for n in self.of_role(role)))
        return next(live, order[0])

    def shown(self) -> dict[str, Seen]:
        """What is known of those whose models are listed, by node; only who is not down."""
        return {self.backends[n].node: self.seen[n] for n in self.of_role(self.shown_role()) if self._is_live(n)}

    def digests(self, key: str) -> frozenset[str]:
        """The contents that go by this name, as far as anybody in play has said; more than one is drift."""
        return frozenset(self.seen[number].digests[key] for number in self.holders_in_play(key))

    def for_workers(self) -> tuple[lease.Backend, ...]:
        """The table that workers go on with alone.

        A backend that has not answered yet is left out: after a restart of the control process workers may have requests there,
        which would be taken from it if it were called down. One that the mode leaves out has no models there, and one that is
        drained a role of its own: what runs on them goes on.
        """
        order = self.serving.order
        rows = [
            lease.Backend(
                id=number,
                node=backend.node,
                address=backend.address,
                slots=backend.slots,
                up=self.seen[number].state is not State.DOWN,
                models=tuple(sorted(self.seen[number].keys)) if backend.role in order else (),
                role=DRAINED if backend.node in self.drained else backend.role.value,
            )
            for number, backend in sorted(self.backends.items())
            if not self.seen[number].is_new
        ]
        if self.cache and self.serving.uses_cache:
            rows.append(cache_row(self.cache, [backend.node for backend in self.nodes.values()]))
        return tuple(rows)

    def _is_live(self, number: int) -> bool:
        return self.seen[number].state is not State.DOWN

    def _tell_all(self) -> None:
        for listener in self.told:
            listener()

    def _set(self, number: int, after: Seen) -> None:
        before = self.seen[number]
        if after == before:
            return
        if (state := after.health.state) is not before.state:
            after = replace(after, state=state, since=self.now())
        self.seen[number] = after
        if number in self.nodes:
            self._index(number, before.keys, after.keys)
        self._tell(Change(self.backends[number], before, after))

    def _index(self, number: int, before: frozenset[str], after: frozenset[str]) -> None:
        for key in before - after:
            self._holders[key].discard(number)
            if not self._holders[key]:
                del self._holders[key]
        for key in after - before:
            self._holders.setdefault(key, set()).add(number)

    def _tell(self, change: Change) -> None:
        for listener in self.listeners:
            listener(change)


def _indexed(seen: Seen) -> Seen:
    in_memory = {row.digest for row in seen.loaded}
    return replace(
        seen,
        keys=frozenset(row.key for row in seen.tags),
        digests={row.key: row.digest for row in seen.tags},
        warm=frozenset(row.key for row in seen.tags if row.digest in in_memory),
    )
