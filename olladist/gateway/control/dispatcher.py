"""Which backend an exchange goes to, and what it said about that backend when it ended. No sockets: lease_server has them."""

from collections import Counter
from collections.abc import Callable
from functools import lru_cache

from olladist.gateway.control import refusals
from olladist.gateway.control.ledger import Lease, Ledger
from olladist.gateway.control.roster import Roster
from olladist.gateway.lease import OUTCOMES, Ask, Done, Grant, Hello, Refuse
from olladist.inventory.model import Strategy
from olladist.ollama.names import split_name
from olladist.scheduling.backend import Candidate
from olladist.scheduling.health import State
from olladist.scheduling.strategies import choose

# How long a backend is a last resort for one model after it could not serve it, by the status it gave: 500 is a load that
# failed (out of memory, a damaged blob), and another try costs its next client that load's time; 503 is a full queue.
AVOID_SECONDS = {500: 10.0, 503: 2.0}


class Dispatcher:
    """Answers workers. Each is known by a number of its connection, so that one which comes back is not confused with itself.

    `on_missing` is called with a backend that has said that it has not got a model which it listed.
    """

    def __init__(
        self,
        roster: Roster,
        strategy: Strategy,
        now: Callable[[], float],
        on_missing: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.roster = roster
        self.strategy = strategy
        self.ledger = Ledger()
        self.outcomes: Counter[str] = Counter(dict.fromkeys((*OUTCOMES, "granted", "refused"), 0))
        self._now = now
        self._on_missing = on_missing
        self._turns: Counter[str] = Counter()
        self._avoid: dict[Lease, float] = {}

    def hello(self, worker: int, hello: Hello) -> None:
        """Counts what the worker runs already. What runs on a backend that has left the table is nobody's load."""
        numbers = {backend.node: number for number, backend in self.roster.backends.items()}
        for held in hello.held:
            if held.node in numbers:
                self.ledger.hold(worker, held.id, Lease(numbers[held.node], _key(held.model)))

    def ask(self, worker: int, ask: Ask) -> Grant | Refuse:
        """Raises ValueError for an id that is held already."""
        if self.ledger.holds(worker, ask.id):
            raise ValueError(f"ask {ask.id} is granted already")
        key = _key(ask.model)
        chosen = self._choose(key, ask)
        if chosen is None:
            self.outcomes["refused"] += 1
            return refusals.refuse(ask, self.roster, key)
        self.ledger.hold(worker, ask.id, Lease(chosen, key))
        self.outcomes["granted"] += 1
        return Grant(ask.id, chosen)

    def done(self, worker: int, done: Done) -> None:
        """Releases what the worker held under this id, and takes what happened as evidence about the backend."""
        lease = self.ledger.release(worker, done.id)
        if lease is None:
            return  # refused, or the client left before the answer
        if done.outcome not in OUTCOMES:
            raise ValueError(f"{done.outcome!r} is no outcome")
        self.outcomes[done.outcome] += 1
        if done.backend != lease.backend:
            return  # the client left while the grant was on its way: nothing was sent to the backend
        self.roster.ended(lease.backend, done.outcome)
        if done.outcome == "retryable":
            self._could_not_serve(lease, done.status)

    def gone(self, worker: int) -> int:
        """The worker's connection has ended: all it held is released; returns how much that was."""
        return self.ledger.release_all(worker)

    def _choose(self, key: str, ask: Ask) -> int | None:
        """The best of those that are well; where there is none, of those that are not but answer."""
        well: list[Candidate] = []
        poorly: list[Candidate] = []
        seen, backends = self.roster.seen, self.roster.backends
        in_flight, of_model = self.ledger.in_flight, self.ledger.in_flight_model(key)
        for number in self.roster.holders(key):
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
        chosen = choose(self.strategy, well or poorly, turn, ask.affinity)
        if chosen is not None and not ask.tried:
            self._turns[key] = turn + 1  # a second try must not shift whose turn it is
        return chosen

    def _could_not_serve(self, lease: Lease, status: int) -> None:
        if status == 404:
            self.roster.forget(lease.backend, lease.model)
            self._on_missing(lease.backend)
        elif seconds := AVOID_SECONDS.get(status):
            self._avoid[lease] = self._now() + seconds

    def _avoided(self, lease: Lease) -> bool:
        until = self._avoid.get(lease)
        if until is None:
            return False
        if until <= self._now():
            del self._avoid[lease]
            return False
        return True


@lru_cache(maxsize=4096)
def _key(model: str) -> str:
    """The normalised name; of what is no name, something that no backend lists."""
    return split_name(model).key
