"""What the gateway knows of its backends now: who there is, who is well, who holds which model and who has it in memory."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from olladist.gateway import lease
from olladist.gateway.control.answers import Row
from olladist.gateway.control.backends import Backend
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
    warm: frozenset[str] = (
        frozenset()
    )  # the names in `tags` whose content is in memory, under whichever name it was loaded
    since: float = 0.0  # when its state changed
    tags_read: float = -1.0
    loaded_read: float = -1.0
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


_NOBODY: frozenset[int] = frozenset()


class Roster:
    """Values about backends, replaced whole; whoever listens is told of each replacement before the next one.

    What is said about a backend that is not there (any more) is ignored: probes and requests outlive a reload.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.backends: Mapping[int, Backend] = {}
        self.seen: dict[int, Seen] = {}
        self.listeners: list[Callable[[Change], None]] = []
        self._holders: dict[str, set[int]] = {}

    def swap(self, backends: Iterable[Backend]) -> None:
        """From now on there are these and no others; one that stays as it was keeps what is known of it."""
        before, known = self.backends, self.seen
        self.backends = {backend.id: backend for backend in backends}
        same = {number for number, backend in self.backends.items() if before.get(number) == backend}
        self.seen = {n: known[n] if n in same else Seen(since=self.now()) for n in self.backends}
        self._holders = {}
        for number, seen in self.seen.items():
            for key in seen.keys:
                self._holders.setdefault(key, set()).add(number)
        for number in before.keys() - same:
            self._tell(Change(before[number], known[number], None))
        for number in self.backends.keys() - same:
            self._tell(Change(self.backends[number], None, self.seen[number]))

    def probed(self, number: int, problem: str, version: str = "", *, silent: bool = False) -> None:
        """After a probe; `problem` is "" for a good one, which says `version`."""
        if seen := self.seen.get(number):
            judged = health.probed(seen.health, problem, silent=silent)
            self._set(number, replace(seen, health=judged, version=version or seen.version))

    def ended(self, number: int, outcome: str) -> None:
        """After a request; `outcome` as in gateway.lease.OUTCOMES."""
        if seen := self.seen.get(number):
            self._set(number, replace(seen, health=health.ended(seen.health, outcome)))

    def listing_failed(self, number: int, problem: str) -> None:
        if seen := self.seen.get(number):
            self._set(number, replace(seen, health=health.listed(seen.health, problem)))

    def listed(self, number: int, tags: tuple[Row, ...]) -> None:
        """After its /api/tags was read."""
        if seen := self.seen.get(number):
            now = replace(seen, tags=tags, tags_read=self.now(), health=health.listed(seen.health, ""))
            self._set(number, _indexed(now))

    def loaded(self, number: int, rows: tuple[Row, ...]) -> None:
        """After its /api/ps was read."""
        if seen := self.seen.get(number):
            self._set(number, _indexed(replace(seen, loaded=rows, loaded_read=self.now(), loaded_problem="")))

    def loaded_failed(self, number: int, problem: str) -> None:
        """/api/ps says where a model is warm, not whether a backend works: a failure is shown, and takes nothing away."""
        if seen := self.seen.get(number):
            self._set(number, replace(seen, loaded_problem=problem))

    def forget(self, number: int, key: str) -> None:
        """A backend has said itself that it has not got the model; what it lists next counts again."""
        if (seen := self.seen.get(number)) and key in seen.keys:
            self._set(number, _indexed(replace(seen, tags=tuple(row for row in seen.tags if row.key != key))))

    def holders(self, key: str) -> Collection[int]:
        """Who listed the model when last heard of, whatever its state, in no order."""
        return self._holders.get(key, _NOBODY)

    def starting(self, within: float) -> tuple[int, ...]:
        """The backends that were added in the last `within` seconds and have not answered yet."""
        since = self.now() - within
        return tuple(number for number, seen in self.seen.items() if seen.is_new and seen.since > since)

    def live(self) -> dict[str, Seen]:
        """What is known of the backends that are not down, by node."""
        return {self.backends[number].node: seen for number, seen in self.seen.items() if seen.state is not State.DOWN}

    def for_workers(self) -> tuple[lease.Backend, ...]:
        """The table that workers go on with alone.

        A backend that has not answered yet is left out: after a restart of the control process workers may have requests there,
        which would be taken from it if it were called down.
        """
        return tuple(
            lease.Backend(
                id=number,
                node=backend.node,
                address=backend.address,
                slots=backend.slots,
                up=self.seen[number].state is not State.DOWN,
                models=tuple(sorted(self.seen[number].keys)),
            )
            for number, backend in sorted(self.backends.items())
            if not self.seen[number].is_new
        )

    def _set(self, number: int, after: Seen) -> None:
        before = self.seen[number]
        if after == before:
            return
        if (state := after.health.state) is not before.state:
            after = replace(after, state=state, since=self.now())
        self.seen[number] = after
        for key in before.keys - after.keys:
            self._holders[key].discard(number)
            if not self._holders[key]:
                del self._holders[key]
        for key in after.keys - before.keys:
            self._holders.setdefault(key, set()).add(number)
        self._tell(Change(self.backends[number], before, after))

    def _tell(self, change: Change) -> None:
        for listener in self.listeners:
            listener(change)


def _indexed(seen: Seen) -> Seen:
    in_memory = {row.digest for row in seen.loaded}
    return replace(
        seen,
        keys=frozenset(row.key for row in seen.tags),
        warm=frozenset(row.key for row in seen.tags if row.digest in in_memory),
    )
