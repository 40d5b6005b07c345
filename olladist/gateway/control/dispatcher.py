"""Which backend an exchange goes to, and what it said about that backend when it ended. No sockets: lease_server has them."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from olladist.gateway.control import fallback, refusals
from olladist.gateway.control.backends import CACHE_ID, LOCAL_ID, Role
from olladist.gateway.control.learned import End
from olladist.gateway.control.ledger import Lease, Ledger
from olladist.gateway.control.queue import Granted, Queue
from olladist.gateway.control.reserve import Reserve
from olladist.gateway.control.roster import Roster
from olladist.gateway.lease import OUTCOMES, RETURNED, Ask, Done, First, Grant, Hello, Refuse, Used
from olladist.inventory.model import Strategy
from olladist.ollama.names import is_cloud, split_name
from olladist.scheduling.backend import Candidate
from olladist.scheduling.health import State
from olladist.scheduling.strategies import choose

# How long a backend is a last resort for one model after it could not serve it, by the status it gave: 500 is a load that
# failed (out of memory, a damaged blob), and another try costs its next client that load's time; 503 is a full queue.
AVOID_SECONDS = {500: 10.0, 503: 2.0}

# Clients make up names of models, so what is remembered of failures has a bound: they are asked for within seconds.
_FAILED_MAX = 1000

# What a client is told of a backend that was tried, by how that ended.
_FAILURES = {"connect": "no connection", "died": "it ended the connection", "retryable": "it answered {status}"}


# Requests that wait, of all keys together and of one: at 2 KB each in the worker and 1 KB here, 30 MB at most. Ollama's own bound is 512 on
# each host, but only for those that wait for a load.
WAITING_MAX = 10_000
WAITING_MAX_OF_KEY = 5_000


class Answered(Protocol):
    """Takes the answer to an Ask that could not be given at once; `unload` are models that the node has to let go of first."""

    def __call__(self, worker: int, ask: Ask, answer: Grant | Refuse, unload: tuple[str, ...]) -> None: ...


class Kept(Protocol):
    """The answers that are kept, as far as placing needs them."""

    def has(self, digest: str, contents: frozenset[str]) -> bool:
        """Whether there is an answer that a model of one of these contents has given; no contents: any."""

    def expect(self, digest: str, contents: str) -> bool:
        """Whether the answer is to be kept that a model of these contents is being asked for."""


class _Nothing:
    def has(self, digest: str, contents: frozenset[str]) -> bool:
        return False

    def expect(self, digest: str, contents: str) -> bool:
        return False


class Wait(NamedTuple):
    """The queue has it, which may give it a slot at once, but not of the nodes in `avoid`."""

    avoid: Collection[int]
    priority: int


class Dispatcher:
    """Answers workers. Each is known by a number of its connection, so that one which comes back is not confused with itself.

    `on_missing` is called with a backend that has said that it has not got a model which it listed. `designated` is the only
    node that may be asked for models of Ollama's cloud, for it is the one that is signed in.
    """

    def __init__(
        self,
        roster: Roster,
        strategy: Strategy,
        now: Callable[[], float],
        on_missing: Callable[[int], None] = lambda _: None,
        *,
        kept: Kept | None = None,
        designated: Callable[[], int | None] = lambda: None,
    ) -> None:
        self.roster = roster
        self.ledger = Ledger()
        self.outcomes: Counter[str] = Counter(dict.fromkeys((*OUTCOMES, "granted", "refused"), 0))
        self._now = now
        self._on_missing = on_missing
        self._kept: Kept = _Nothing() if kept is None else kept  # an empty one is false
        self._designated = designated
        self.queue = Queue(roster, now, self._granted, self._stranded)
        self.strategy = strategy
        self._order = roster.serving.order
        roster.told.append(self._told)  # after the queue's own
        self.answered: Answered = _nobody  # hears of answers that come later
        self.reserve = Reserve()
        self.recall: Callable[[Iterable[int]], None] = lambda _: None  # tells these workers that somebody waits
        self.recall_one: Callable[[int, int], None] = lambda _, __: None  # tells a worker that a lease shall go back
        self.priorities: Mapping[str, int] = {}  # of API keys
        self.waiting_max = WAITING_MAX
        self._turns: Counter[str] = Counter()
        self._avoid: dict[Lease, float] = {}
        self._failed: dict[
            Lease, str
        ] = {}  # how the last request for a model ended on a backend, where it came to nothing

    @property
    def strategy(self) -> Strategy:
        return self._strategy

    @strategy.setter
    def strategy(self, strategy: Strategy) -> None:
        """The queue counts what runs where it decides: from the ledger on when it begins to."""
        self._strategy = strategy
        held = (each for each in self.ledger.all() if not _is_cloud(each[2].model))
        self.queue.count(held if strategy is Strategy.ADAPTIVE else None)

    def hello(self, worker: int, hello: Hello) -> None:
        """Counts what the worker runs already. What runs on a backend that has left the table is nobody's load."""
        numbers = {backend.node: number for number, backend in self.roster.backends.items()}
        for held in hello.held:
            if held.node in numbers:
                number, key = numbers[held.node], _key(held.model)
                self.ledger.hold(worker, held.id, Lease(number, key))
                if not _is_cloud(held.model):
                    self.queue.runs(worker, held.id, number, key)

    def ask(self, worker: int, ask: Ask) -> Grant | Refuse | None:
        """None where the answer comes later, by a call of `answered`. Raises ValueError for an id that is held already."""
        if self.ledger.holds(worker, ask.id):
            raise ValueError(f"ask {ask.id} is granted already")
        key = _key(ask.model)
        if self._may_take(ask) and (node := self.queue.take(worker, ask, key)) is not None:
            self.outcomes["granted"] += 1
            self.ledger.hold(worker, ask.id, Lease(node, key))
            return self._grant(node, Role.NODE, key, ask)
        answer = self._decide(key, ask)
        if isinstance(answer, Wait):
            self.call_back()
            if self.reserve.is_called:
                self.reserve.hold(worker, ask)
            else:
                self.queue.arrive(worker, ask, key, answer.avoid, answer.priority)
            return None
        self._count(worker, key, ask, answer)
        return answer

    def recalled(self, worker: int) -> None:
        """The worker has given back what lay idle."""
        self.reserve.answered(worker)
        self._ask_held()

    def call_back(self) -> None:
        """What lies idle in workers is to be free."""
        if told := self.reserve.call(self._now()):
            self.recall(told)

    def _ask_held(self) -> None:
        for worker, ask in self.reserve.release():
            self._stranded(worker, ask)

    def _may_take(self, ask: Ask) -> bool:
        """Whether a free slot may be given to it at once, as most requests get theirs: any node will do, and nobody else."""
        return (
            self._strategy is Strategy.ADAPTIVE
            and self.roster.serving.order[0] is Role.NODE
            and not self.reserve.is_called  # who waits for that came before
            and not (ask.tried or ask.only or ask.load or self._avoid)
            and not (self._is_full(ask) or _is_cloud(ask.model))
        )

    def foresee(self, ask: Ask) -> Grant | Refuse | Wait:
        """What `ask` would hear if it came now; nothing changes by that."""
        turns = dict(self._turns)
        try:
            return self._decide(_key(ask.model), ask)
        finally:
            self._turns = Counter(turns)

    def avoids(self, number: int, model: str) -> bool:
        """Whether the backend could not serve the model a moment ago."""
        return self._avoided(Lease(number, _key(model)))

    def anybody(self, worker: int, ask: Ask) -> Grant | None:
        """For what nobody has: a node that is well, to refuse it as its version of Ollama does; None where none is.

        Which of two mistakes in a request is told first, and in which words, is another with each version.
        """
        roster = self.roster
        well = [number for number in roster.in_play() if roster.seen[number].state is State.UP]
        if not well or ask.only or ask.tried:
            return None
        chosen = min(well, key=self._in_flight)
        answer = Grant(ask.id, chosen, final=True)
        self._count(worker, _key(ask.model), ask, answer)
        return answer

    def first(self, worker: int, first: First) -> None:
        self.queue.started(worker, first.id)

    def tick(self) -> None:
        """About once a second."""
        self.reserve.tick(self._now())
        self._ask_held()
        for worker, ask, position in self.queue.tick():
            key = _key(ask.model)
            standing_in = self._instead(key, ask, fallback.LATE)
            answer = replace(standing_in, position=position) if standing_in else refusals.too_late(ask, position)
            self._count(worker, key, ask, answer)
            self.answered(worker, ask, answer, ())

    def follow(self, strategy: Strategy) -> None:
        """From now on requests are placed like this, those too that wait."""
        if strategy is not self.strategy:
            self.call_back()
            self.strategy = strategy
            self.queue.give_back()

    def done(self, worker: int, done: Done) -> None:
        """Releases what the worker held under this id, and takes what happened as evidence about the backend."""
        lease = self.ledger.release(worker, done.id)
        self.reserve.ended(worker, done.id)
        if lease is None:
            if not self.reserve.forget(worker, done.id):
                self.queue.leave(worker, done.id)
            return  # refused, or the client left before the answer
        if done.outcome == RETURNED:
            self.queue.ended(worker, done.id, lease.backend, End(outcome="served"))
            return
        if done.outcome not in OUTCOMES:
            self.queue.ended(worker, done.id, lease.backend, End())
            raise ValueError(f"{done.outcome!r} is no outcome")
        self.outcomes[done.outcome] += 1
        if done.backend != lease.backend:
            self.queue.ended(worker, done.id, lease.backend, End())
            return  # the client left while the grant was on its way: nothing was sent to the backend
        self.roster.ended(lease.backend, done.outcome)
        end = End(done.usage, done.outcome, done.first_byte, done.duration)
        self._remember(lease, done)
        if done.outcome == "retryable":
            self._could_not_serve(lease, done.status)  # before anybody else gets the slot
        self.queue.ended(worker, done.id, lease.backend, end)

    def used(self, worker: int, used: Used) -> None:
        """Requests were served under a lease that goes on."""
        lease = self.ledger.held(worker).get(used.id)
        if lease is None:
            raise ValueError(f"no lease {used.id} is held")
        self.outcomes["served"] += len(used.uses)
        self.roster.ended(lease.backend, "served")
        if not self.queue.used(worker, used.id, lease.backend, used.uses):
            self.recall_one(worker, used.id)  # a better place is free, and who comes next shall have it

    def gone(self, worker: int) -> int:
        """The worker's connection has ended: all it held is released; returns how much that was."""
        self.queue.gone(worker)
        self.reserve.gone(worker)
        held = dict(self.ledger.held(worker))
        released = self.ledger.release_all(worker)
        for number, lease in held.items():
            self.queue.ended(worker, number, lease.backend, End())
        self._ask_held()
        return released

    def _decide(self, key: str, ask: Ask) -> Grant | Refuse | Wait:
        serving = self.roster.serving
        if _is_cloud(ask.model):
            return self._cloud(ask)
        for role in fallback.roles(serving, ask.only):
            holders = self._holders(key, role)
            if role is Role.NODE and self.strategy is Strategy.ADAPTIVE and self._may_wait(holders, ask):
                if ask.load and (ready := [n for n in self.queue.loaded(key, ask.options) if n in holders]):
                    # Nothing is to be answered, so it takes no slot: Ollama answers as soon as the model is in memory.
                    return self._grant(min(ready, key=self._in_flight), role, key, ask)
                if self._is_full(ask):
                    return self._instead(key, ask, fallback.FULL) or refusals.queue_full(ask)
                return self._wait(holders, key, ask)
            chosen = self._choose(holders, key, ask)
            if chosen is not None:
                return self._grant(chosen, role, key, ask)
        return self._kept_answer(key, ask) or refusals.refuse(ask, self.roster, key)

    def _instead(self, key: str, ask: Ask, why: str) -> Grant | None:
        """What stands in for nodes that have the model and no slot for it."""
        for role in fallback.roles(self.roster.serving, ask.only):
            if role is not Role.NODE and (chosen := self._choose(self._holders(key, role), key, ask)) is not None:
                return self._grant(chosen, role, key, ask, why)
        return self._kept_answer(key, ask, why)

    def _kept_answer(self, key: str, ask: Ask, why: str = "") -> Grant | None:
        if not (
            ask.cache and self.roster.serving.uses_cache and self._may_exist(key) and self._has_kept(key, ask.cache)
        ):
            return None
        return Grant(ask.id, CACHE_ID, Role.CACHE.value, why or self._reason(key, ask))

    def _grant(self, chosen: int, role: Role, key: str, ask: Ask, why: str = "") -> Grant:
        standing_in = fallback.word(self.roster.serving, role)
        reason = (why or self._reason(key, ask)) if standing_in else ""
        keep = self._keeps(chosen, key, ask)
        plain = role is Role.NODE and not (standing_in or keep)
        return Grant(ask.id, chosen, standing_in, reason, keep=keep, again=plain and self._may_lend(ask))

    def _may_lend(self, ask: Ask) -> bool:
        """Whether requests like this one may have the slot after it: any node is as good for them, and nobody waits for it.

        What was tried or may be kept is told of one by one; and a named strategy decides about each request.
        """
        return (
            self._strategy is Strategy.ADAPTIVE
            and not (len(self.queue) or self.reserve.is_called)
            and not (ask.tried or ask.cache or ask.load)
            and (ask.begins or not ask.affinity)
        )

    def _count(self, worker: int, key: str, ask: Ask, answer: Grant | Refuse) -> None:
        """An answer that is not the queue's. Such a grant takes none of the slots that the queue gives."""
        if isinstance(answer, Refuse):
            self.outcomes["refused"] += 1
        else:
            self.outcomes["granted"] += 1
            self.ledger.hold(worker, ask.id, Lease(answer.backend, key))

    # The queue.

    def _may_wait(self, holders: Iterable[int], ask: Ask) -> bool:
        """Whether there is anybody to wait for."""
        seen = self.roster.seen
        return any(number not in ask.tried and seen[number].state is not State.DOWN for number in holders)

    def _is_full(self, ask: Ask) -> bool:
        waiting = len(self.queue) + len(self.reserve)
        return waiting >= self.waiting_max or bool(ask.key and self.queue.of_key(ask.key) >= WAITING_MAX_OF_KEY)

    def _in_flight(self, number: int) -> int:
        return self.ledger.in_flight.get(number, 0)

    def _told(self) -> None:
        """Another mode may have no use for nodes, or for others first: who waits for one is placed anew."""
        before, self._order = self._order, self.roster.serving.order
        if self._order[0] is not before[0] or Role.NODE not in self._order:
            self.queue.give_back()

    def _wait(self, holders: Collection[int], key: str, ask: Ask) -> Wait:
        avoid = {number for number in holders if self._avoid and self._avoided(Lease(number, key))}
        others = any(number not in avoid for number in holders if self._may_wait((number,), ask))
        return Wait(avoid if others else (), self.priorities.get(ask.key, 0))

    def _granted(self, granted: Granted) -> None:
        ask, key = granted.ask, _key(granted.ask.model)
        self.ledger.hold(granted.worker, ask.id, Lease(granted.node, key))
        self.outcomes["granted"] += 1
        grant = self._grant(granted.node, Role.NODE, key, ask)
        if granted.loads or granted.position:
            grant = replace(grant, first=granted.loads, position=granted.position, again=False)
        self.answered(granted.worker, ask, grant, granted.unload)

    def _stranded(self, worker: int, ask: Ask) -> None:
        """Nobody is left whom it could wait for."""
        answer = self.ask(worker, ask)
        if answer is not None:
            self.answered(worker, ask, answer, ())

    # Who there is.

    def _cloud(self, ask: Ask) -> Grant | Refuse:
        """Whether it is listed there or not: Ollama passes such names on to its cloud."""
        number = self._designated()
        known = self.roster.seen.get(number) if number is not None else None
        if number is None or known is None or known.state is State.DOWN or ask.only or number in ask.tried:
            return refusals.no_cloud(ask, self.roster, number)
        return Grant(ask.id, number)

    def _holders(self, key: str, role: Role) -> Collection[int]:
        """Those of a role who have the model and may get new work."""
        roster = self.roster
        if role is Role.LOCAL:
            return (LOCAL_ID,) if LOCAL_ID in roster.seen and key in roster.seen[LOCAL_ID].keys else ()
        holders = roster.holders(key)
        if not roster.drained:
            return holders
        return [number for number in holders if roster.backends[number].node not in roster.drained]

    def _choose(self, holders: Collection[int], key: str, ask: Ask) -> int | None:
        """The best of those that are well; where there is none, of those that are not but answer."""
        well: list[Candidate] = []
        poorly: list[Candidate] = []
        seen, backends = self.roster.seen, self.roster.backends
        in_flight, of_model = self.ledger.in_flight, self.ledger.in_flight_model(key)
        for number in holders:
            known = seen[number]
            state = known.state
            if state is State.DOWN or number in ask.tried:
                continue
            candidate = Candidate(
                id=number,
                slots=backends[number].slots,
                in_flight=in_flight.get(number, 0),
                in_flight_model=of_model.get(number, 0),
                warm=key in known.warm,
            )
            trusted = state is State.UP and not (self._avoid and self._avoided(Lease(number, key)))
            (well if trusted else poorly).append(candidate)
        turn = self._turns[key]
        chosen = choose(self.strategy, well or poorly, turn, 0)  # conversations are the queue's business
        if chosen is not None and not ask.tried:
            self._turns[key] = turn + 1  # a second try must not shift whose turn it is
        return chosen

    def _reason(self, key: str, ask: Ask) -> str:
        roster = self.roster
        first = roster.serving.order[0]
        mine = set(roster.of_role(first))
        holders = sorted(mine & {*roster.holders_in_play(key), *ask.tried})
        reasons = ((roster.backends[number].node, self._why(number, key, ask)) for number in holders)
        passed = [fallback.Passed(node, why) for node, why in reasons if why]
        reachable = any(roster.seen[number].state is not State.DOWN for number in mine)
        return fallback.reason(first, passed, reachable=reachable)

    def _why(self, number: int, key: str, ask: Ask) -> str:
        if number in ask.tried:
            return self._failed.get(Lease(number, key), "it failed")
        if self.roster.seen[number].state is State.DOWN:
            return fallback.DOWN
        return fallback.DRAINED if self.roster.backends[number].node in self.roster.drained else ""

    def _keeps(self, chosen: int, key: str, ask: Ask) -> bool:
        if not (ask.keep and ask.cache and self.roster.serving.uses_cache):
            return False
        contents = self.roster.seen[chosen].digests.get(key, "")
        return bool(contents) and self._kept.expect(ask.cache, contents)

    def _has_kept(self, key: str, digest: str) -> bool:
        return self._kept.has(digest, self.roster.digests(key))

    def _may_exist(self, key: str) -> bool:
        """False where everybody can be asked and has not got the model: then it was deleted, and so were its answers."""
        roster = self.roster
        return bool(roster.holders_in_play(key)) or any(
            roster.seen[number].state is State.DOWN for number in roster.in_play()
        )

    def _remember(self, lease: Lease, done: Done) -> None:
        text = _FAILURES.get(done.outcome)
        if text is not None:
            self._failed.pop(lease, None)
            self._failed[lease] = text.format(status=done.status)
            if len(self._failed) > _FAILED_MAX:
                del self._failed[next(iter(self._failed))]
        elif done.outcome == "served":
            self._failed.pop(lease, None)

    def _could_not_serve(self, lease: Lease, status: int) -> None:
        if status == 404:
            self.roster.forget(lease.backend, lease.model)
            self._on_missing(lease.backend)
        elif (seconds := AVOID_SECONDS.get(status)) and lease.backend in self.roster.holders(lease.model):
            self._avoid[lease] = self._now() + seconds

    def _avoided(self, lease: Lease) -> bool:
        until = self._avoid.get(lease)
        if until is None:
            return False
        if until <= self._now():
            del self._avoid[lease]
            return False
        return True


def _nobody(worker: int, ask: Ask, answer: Grant | Refuse, unload: tuple[str, ...]) -> None:
    """Until somebody listens."""


@lru_cache(maxsize=4096)
def _key(model: str) -> str:
    """The normalised name; of what is no name, something that no backend lists."""
    return split_name(model).key


_is_cloud = lru_cache(maxsize=4096)(is_cloud)
