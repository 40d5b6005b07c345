"""The queue over a real roster, with everything that can happen to hosts and clients, in any order: nothing is lost or served twice."""

from collections import Counter
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from olladist.gateway.control.backends import Backend
from olladist.gateway.control.learned import End
from olladist.gateway.control.queue import Granted, Preloading, Queue
from olladist.gateway.control.roster import Roster
from olladist.gateway.lease import Ask, Usage
from olladist.scheduling.health import State
from tests.gateway.control.test_queue import A, B, Clock, backend, key, row

NODES = (0, 1, 2)
NAMES = ("tiny", "alias", "other")
SLOTS = 2
CONTENTS = {"tiny": A, "alias": A, "other": B}
KEYS = ("", "team")
# What a backend may say of its times: nothing, the truth, and anything else.
_seconds = st.one_of(st.just(-1.0), st.floats(0.0, 5.0), st.floats())
_usages = st.builds(Usage, st.integers(-1, 2**63), st.integers(-1, 1000), _seconds, _seconds, _seconds)
_ends = st.builds(End, _usages, st.sampled_from(["served", "died", "cut", "left", "retryable"]), _seconds, _seconds)
_times = st.floats(-1e12, 1e12)
_listings = st.dictionaries(st.sampled_from(NAMES), _times, max_size=2)


class Machine(RuleBasedStateMachine):
    """Three nodes of two slots. A worker that is told that its node is down asks again, as edge workers do."""

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.roster = Roster(self.clock)
        self.queue = Queue(self.roster, self.clock, self.granted, self.stranded)
        self.numbers = 0
        self.arrivals = 0
        self.waiting: dict[int, tuple[str, str]] = {}  # number to name and key
        self.avoids: dict[int, set[int]] = {}
        self.bound: dict[int, tuple[int, str]] = {}
        self.refused: set[int] = set()
        self.loads: list[Preloading] = []
        self.queue.preload = self.loads.append
        self.roster.swap(self.fleet())
        self.be_well()

    def fleet(self) -> list[Backend]:
        envs = {"OLLAMA_MAX_LOADED_MODELS": "2"}
        return [replace(backend(number, **envs), slots=SLOTS) for number in NODES]

    def be_well(self) -> None:
        for number in NODES:
            for _ in range(3):
                self.roster.probed(number, "", "0.17.4")
            self.roster.listed(number, tuple(row(*each) for each in CONTENTS.items()))

    # What the queue says.

    def granted(self, granted: Granted) -> None:
        name, _ = self.waiting.pop(granted.ask.id)
        node = granted.node
        seen = self.roster.seen[node]
        assert seen.state is not State.DOWN
        assert self.roster.nodes[node].node not in self.roster.drained
        assert key(name) in seen.keys, "who has it under another name alone would not know it"
        assert node not in self.avoids.pop(granted.ask.id)
        identity = self.queue.identity(key(name))
        assert sum(each == (node, identity) for each in self.bound.values()) < SLOTS
        self.bound[granted.ask.id] = node, identity

    def stranded(self, worker: int, ask: Ask) -> None:
        name, _ = self.waiting.pop(ask.id)
        self.avoids.pop(ask.id)
        self.place(worker, ask, name, set())

    def place(self, worker: int, ask: Ask, name: str, avoid: set[int]) -> None:
        """As the dispatcher does it."""
        able = [
            number
            for number in self.roster.holders(key(name))
            if self.roster.seen[number].state is not State.DOWN
            and self.roster.nodes[number].node not in self.roster.drained
        ]
        if not able:
            self.refused.add(ask.id)
            return
        avoid = avoid if set(able) - avoid else set()
        self.arrivals += 1
        self.waiting[ask.id] = name, ask.key
        self.avoids[ask.id] = avoid
        self.queue.arrive(worker, ask, key(name), avoid)

    # What happens.

    @rule(
        name=st.sampled_from(NAMES),
        team=st.sampled_from(KEYS),
        deadline=st.sampled_from([0.0, 5.0, 50.0]),
        avoid=st.sets(st.sampled_from(NODES), max_size=2),
    )
    def arrive(self, name: str, team: str, deadline: float, avoid: set[int]) -> None:
        self.numbers += 1
        self.place(1, Ask(self.numbers, name, "chat", key=team, deadline=deadline), name, avoid)

    @rule(which=st.integers(0, 20))
    def first_byte(self, which: int) -> None:
        if self.bound:
            self.queue.started(1, sorted(self.bound)[which % len(self.bound)])

    @rule(which=st.integers(0, 20), end=_ends)
    def end(self, which: int, end: End) -> None:
        if self.bound:
            number = sorted(self.bound)[which % len(self.bound)]
            node, _ = self.bound.pop(number)
            self.queue.ended(1, number, node, end)

    @rule(which=st.integers(0, 20))
    def client_leaves(self, which: int) -> None:
        if self.waiting:
            number = sorted(self.waiting)[which % len(self.waiting)]
            del self.waiting[number], self.avoids[number]
            self.queue.leave(1, number)

    @rule()
    def worker_dies(self) -> None:
        self.waiting.clear()
        self.avoids.clear()
        self.queue.gone(1)
        for number, (node, _) in tuple(self.bound.items()):
            del self.bound[number]
            self.queue.ended(1, number, node, End())

    @rule(number=st.sampled_from(NODES))
    def goes_down(self, number: int) -> None:
        for _ in range(2):
            self.roster.probed(number, "no answer")
        for ticket, (node, _) in tuple(self.bound.items()):
            if node == number:
                del self.bound[ticket]
                self.queue.ended(1, ticket, node, End(outcome="died"))

    @rule(number=st.sampled_from(NODES))
    def comes_up(self, number: int) -> None:
        self.roster.probed(number, "", "0.17.4")

    @rule(nodes=st.sets(st.sampled_from(["gpu0", "gpu1"])))
    def drain(self, nodes: set[str]) -> None:
        self.roster.drain(nodes)

    @rule(number=st.sampled_from(NODES), names=st.sets(st.sampled_from(NAMES)))
    def delete(self, number: int, names: set[str]) -> None:
        """It has these and no others now."""
        self.roster.listed(number, tuple(row(name, CONTENTS[name]) for name in sorted(names)))

    @rule(number=st.sampled_from(NODES), name=st.sampled_from(NAMES))
    def says_404(self, number: int, name: str) -> None:
        self.roster.forget(number, key(name))

    @rule(number=st.sampled_from(NODES), listing=_listings, clock=st.one_of(st.none(), _times))
    def memory(self, number: int, listing: dict[str, float], clock: float | None) -> None:
        """Whatever it says of itself, and whatever its clock shows."""
        rows = {CONTENTS[name]: replace(row(name, CONTENTS[name]), time=at) for name, at in listing.items()}
        self.roster.loaded(number, tuple(rows.values()), clock)

    @rule(stay=st.sets(st.sampled_from(NODES)))
    def leave_the_inventory(self, stay: set[int]) -> None:
        """And come back, as nodes of which nothing is known."""
        self.roster.swap([each for number, each in self.roster.backends.items() if number in stay])
        for ticket, (node, _) in tuple(self.bound.items()):
            if node not in stay:
                del self.bound[ticket]
                self.queue.ended(1, ticket, node, End(outcome="died"))

    @rule()
    def come_back(self) -> None:
        self.roster.swap(self.fleet())
        self.queue.resize()

    @rule(later=st.floats(0, 200))
    def tick(self, later: float) -> None:
        self.clock.time += later
        for _, ask, _ in self.queue.tick():
            del self.waiting[ask.id], self.avoids[ask.id]

    @rule()
    def changes_strategy_and_back(self) -> None:
        self.queue.count(None)
        self.queue.give_back()
        self.queue.count([])

    @rule(name=st.sampled_from(NAMES), requests=st.integers(1, 60), slow=st.booleans())
    def come_and_go(self, name: str, requests: int, slow: bool) -> None:
        """Many, one after the other, which are soon done: a model in demand."""
        usage = Usage(100, 100, -1.0, 1.0, 20.0 if slow else 0.1)
        for _ in range(requests):
            self.clock.time += 0.1
            self.arrive(name, KEYS[0], 0.0, set())
            if self.numbers in self.bound:
                node, _ = self.bound.pop(self.numbers)
                self.queue.ended(1, self.numbers, node, End(usage, "served", 1.0, 25.0))

    @rule(loads=st.booleans())
    def a_load_ends(self, loads: bool) -> None:
        """One for requests to come."""
        if self.loads:
            self.queue.preloaded(self.loads.pop(0), loaded=loads)

    # What must hold.

    @invariant()
    def it_counts_what_we_count(self) -> None:
        assert len(self.queue) == len(self.waiting)
        teams = Counter(team for _, team in self.waiting.values())
        assert {team: self.queue.of_key(team) for team in KEYS} == {team: teams[team] for team in KEYS}
        assert sum(self.queue.ends.values()) + len(self.queue) == self.arrivals

    @invariant()
    def whoever_waits_can_be_served(self) -> None:
        for name, _ in self.waiting.values():
            assert any(self.roster.seen[number].state is not State.DOWN for number in self.roster.holders(key(name))), (
                "nobody has it who could answer"
            )

    @invariant()
    def slots_stay_within_what_was_said(self) -> None:
        for number in self.roster.nodes:
            assert 1 <= self.queue.slots(number) <= SLOTS

    def teardown(self) -> None:
        """Whatever has happened: once everybody is well and everything ends in order, all have been served."""
        if not hasattr(self, "queue"):
            return
        self.roster.drain([])
        self.come_back()
        self.be_well()
        for _ in range(400):
            if not self.waiting and not self.bound:
                return
            self.clock.time += 10.0
            while self.loads:
                self.queue.preloaded(self.loads.pop(), loaded=True)
            for number in sorted(self.bound):
                self.queue.started(1, number)
            for number in sorted(self.bound):
                node, _ = self.bound.pop(number)
                self.queue.ended(1, number, node, End(outcome="served"))
            for _, ask, _ in self.queue.tick():
                del self.waiting[ask.id], self.avoids[ask.id]
        raise AssertionError(f"these wait for ever: {self.waiting}")


TestQueue = Machine.TestCase
TestQueue.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
