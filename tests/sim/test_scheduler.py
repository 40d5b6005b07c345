"""Slots, loads, eviction and keep-alive, without a clock."""

import math
from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from olladist.sim.scheduler import (
    Effect,
    Load,
    Options,
    Ready,
    Refused,
    Request,
    Runner,
    Scheduler,
    SlotGiven,
    Unloaded,
    choose_victim,
)


def scheduler(*, max_loaded: int = 3, max_queue: int = 512, keep_alive: float = 300.0) -> Scheduler:
    return Scheduler(max_loaded=max_loaded, max_queue=max_queue, keep_alive=keep_alive)


def loaded(*keys: str, max_loaded: int = 3, slots: int = 1) -> Scheduler:
    """One with these models in memory and idle since 0."""
    made = scheduler(max_loaded=max_loaded)
    for number, key in enumerate(keys):
        made.submit(Request(1000 + number, key, slots=slots), 0)
        made.loaded(key, 0)
        made.release(1000 + number, 0)
    return made


def test_a_cold_model_is_loaded_and_a_warm_one_is_ready() -> None:
    """The first request starts a load and is ready when it is done; the next one is ready at once."""
    one = scheduler()

    assert one.submit(Request(1, "a"), 0) == [Load("a")]
    assert one.loaded("a", 1) == [Ready(1)]
    assert one.submit(Request(2, "a"), 2) == [Ready(2)]


def test_slots_go_first_come_first_served() -> None:
    """As many requests as there are slots run; the others follow in their order."""
    one = loaded("a", slots=2)
    for ticket in (1, 2, 3, 4):
        one.submit(Request(ticket, "a"), 0)

    given = [one.want_slot(ticket) for ticket in (1, 2, 3, 4)]

    assert given == [[SlotGiven(1)], [SlotGiven(2)], [], []]
    assert one.release(2, 1) == [SlotGiven(3)]
    assert one.release(1, 1) == [SlotGiven(4)]


def test_one_load_at_a_time() -> None:
    """A second cold model waits until the first is loaded."""
    one = scheduler()
    one.submit(Request(1, "a"), 0)

    assert one.submit(Request(2, "b"), 0) == []
    assert one.loaded("a", 1) == [Ready(1), Load("b")]


def test_who_asks_for_a_model_that_loads_waits_behind_those_who_came_before() -> None:
    """It is not among the loaded ones before it is loaded: the queue goes on first, and may even have it unloaded for another."""
    one = loaded("old", max_loaded=2)
    one.submit(Request(1, "a"), 0)
    one.submit(Request(2, "b"), 0)
    assert one.submit(Request(3, "a"), 0) == []

    assert one.loaded("a", 1) == [Ready(1), Unloaded("old"), Load("b")]
    assert one.submit(Request(4, "a"), 1) == [Ready(4)]  # who comes later passes
    assert one.loaded("b", 2) == [Ready(2), Ready(3)]


def test_a_model_that_loads_cannot_be_unloaded() -> None:
    """Who asks for that is too early: there is no such model in memory."""
    one = scheduler()
    one.submit(Request(1, "a"), 0)

    assert one.expire("a", 0) == []
    one.loaded("a", 1)
    assert one.release(1, 2) == []


def test_a_hot_model_starves_a_cold_one() -> None:
    """While somebody always uses the only runner, a request for another model waits without end, as on a real Ollama."""
    one = loaded("hot", max_loaded=1)
    one.submit(Request(0, "hot"), 0)
    one.submit(Request(99, "cold"), 0)
    for ticket in range(1, 20):
        assert one.submit(Request(ticket, "hot"), ticket) == [Ready(ticket)]
        assert one.release(ticket - 1, ticket) == []

    assert one.release(19, 20) == [Unloaded("hot"), Load("cold")]


def test_the_head_of_the_queue_blocks_what_is_behind_it() -> None:
    """A request that waits for a victim keeps one that could be loaded waiting."""
    one = loaded("a", "b", max_loaded=2)
    one.submit(Request(1, "a"), 0)
    one.submit(Request(2, "b"), 0)
    one.submit(Request(3, "c"), 0)

    assert one.submit(Request(4, "d"), 0) == []
    assert one.release(2, 1) == []  # the victim was chosen when both were in use: a
    assert one.release(1, 2) == [Unloaded("a"), Load("c")]


def test_a_victim_that_is_gone_is_forgotten() -> None:
    """A model that was unloaded for another is not unloaded again when it is back and there is room."""
    one = loaded("a", max_loaded=1)
    one.submit(Request(1, "a"), 0)
    one.submit(Request(2, "b"), 0)
    one.release(1, 1)
    one.loaded("b", 2)
    one.release(2, 2)
    one.max_loaded = 3
    one.submit(Request(3, "a"), 3)
    one.loaded("a", 4)

    assert one.submit(Request(4, "c"), 5) == [Load("c")]


def test_a_full_queue_refuses() -> None:
    """Beside the one in hand, max_queue requests may wait for a load; warm requests are never refused."""
    one = scheduler(max_loaded=1, max_queue=1)
    one.submit(Request(1, "a"), 0)
    one.loaded("a", 0)
    one.submit(Request(2, "b"), 0)
    one.submit(Request(3, "c"), 0)

    assert one.submit(Request(4, "d"), 0) == [Refused(4)]
    assert one.submit(Request(5, "a"), 0) == [Ready(5)]


def test_a_load_is_the_one_in_hand() -> None:
    """While a model loads, max_queue requests may wait, those for the same model among them."""
    one = scheduler(max_queue=1)
    one.submit(Request(1, "a"), 0)

    assert one.submit(Request(2, "a"), 0) == []
    assert one.submit(Request(3, "a"), 0) == [Refused(3)]


def test_idle_models_leave_after_their_keep_alive() -> None:
    """The keep-alive runs from the last use; what is in use stays."""
    one = loaded("a", "b")
    one.submit(Request(1, "b"), 200)

    assert one.next_expiry() == 300
    assert one.tick(299) == []
    assert one.tick(300) == [Unloaded("a")]
    assert one.release(1, 400) == []
    assert one.next_expiry() == 700


def test_a_request_can_set_the_keep_alive() -> None:
    """0 unloads when the request is over, a negative one never; it sticks until another request says otherwise."""
    one = loaded("a")
    one.submit(Request(1, "a", keep_alive=math.inf), 0)
    one.release(1, 0)

    assert one.next_expiry() == math.inf
    one.submit(Request(2, "a", keep_alive=0), 5)
    assert one.release(2, 6) == [Unloaded("a")]


def test_expire_unloads_at_once_or_when_idle() -> None:
    """A model in use is unloaded when its last request is over."""
    one = loaded("a", "b")
    one.submit(Request(1, "b"), 0)

    assert one.expire("a", 1) == [Unloaded("a")]
    assert one.expire("b", 1) == []
    assert one.expire("nobody", 1) == []
    assert one.release(1, 2) == [Unloaded("b")]


def test_other_options_reload() -> None:
    """Options of the runner that differ wait for it to be idle and load it anew; num_gpu -1 is content with any."""
    one = loaded("a")
    other = Options(num_ctx=8192)

    assert one.submit(Request(1, "a", Options(num_gpu=-1)), 0) == [Ready(1)]
    assert one.submit(Request(2, "a", other), 0) == []
    assert one.release(1, 1) == [Unloaded("a"), Load("a")]
    assert one.runners["a"].options == other
    assert not Options(num_gpu=5).satisfied_by(Options(num_gpu=3))


def test_a_client_that_leaves_during_a_load_aborts_it() -> None:
    """Who else waited for that load asks again."""
    one = scheduler()
    one.submit(Request(1, "a"), 0)
    one.submit(Request(2, "a"), 0)

    assert one.release(1, 1) == [Unloaded("a"), Load("a")]
    assert one.loaded("a", 2) == [Ready(2)]


def test_a_client_that_leaves_the_queue_is_forgotten() -> None:
    """The next one takes its place."""
    one = loaded("a", max_loaded=1)
    one.submit(Request(1, "a"), 0)
    one.submit(Request(2, "b"), 0)
    one.submit(Request(3, "c"), 0)
    one.release(2, 0)

    assert one.release(1, 1) == [Unloaded("a"), Load("c")]


def test_the_victim_is_the_idle_one_that_would_leave_first() -> None:
    """Shortest keep-alive among the idle; among the busy where none is idle."""
    busy = {1: Request(1, "x")}
    runners = [
        Runner("a", Options(), 1, keep_alive=10, users=dict(busy)),
        Runner("b", Options(), 1, keep_alive=300),
        Runner("c", Options(), 1, keep_alive=60),
    ]

    assert choose_victim(runners) is runners[2]
    assert choose_victim(runners[:1]) is runners[0]
    assert choose_victim([]) is None


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order, the promises hold."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.tickets = count(1)
        self.scheduler = scheduler(max_loaded=2, max_queue=4, keep_alive=5)
        self.open: dict[int, str] = {}  # tickets of requests that are not over
        self.ready: set[int] = set()
        self.slotted: set[int] = set()
        self.loads: set[str] = set()

    def take(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Ready(ticket=ticket):
                    assert ticket in self.open
                    assert ticket not in self.ready
                    self.ready.add(ticket)
                case SlotGiven(ticket=ticket):
                    assert ticket in self.ready
                    assert ticket not in self.slotted
                    self.slotted.add(ticket)
                case Refused(ticket=ticket):
                    del self.open[ticket]
                case Load(key=key):
                    assert key not in self.loads
                    self.loads.add(key)
                case Unloaded(key=key):
                    assert not [t for t in self.ready if self.open.get(t) == key]
                    self.loads.discard(key)

    @rule(
        key=st.sampled_from("abcd"), keep=st.sampled_from([None, 0.0, 3.0, math.inf]), ctx=st.sampled_from([4096, 8192])
    )
    def submit(self, key: str, keep: float | None, ctx: int) -> None:
        ticket = next(self.tickets)
        self.open[ticket] = key
        self.take(self.scheduler.submit(Request(ticket, key, Options(num_ctx=ctx), keep, slots=2), self.now))

    @precondition(lambda self: self.ready)
    @rule(data=st.data())
    def want_slot(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.ready)))
        waiting = {t for runner in self.scheduler.runners.values() for t in runner.waiting}
        if ticket not in self.slotted | waiting:
            self.take(self.scheduler.want_slot(ticket))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def over(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.open)))
        del self.open[ticket]
        self.ready.discard(ticket)
        self.slotted.discard(ticket)
        self.take(self.scheduler.release(ticket, self.now))

    @precondition(lambda self: self.loads)
    @rule()
    def load_done(self) -> None:
        key = self.loads.pop()
        self.take(self.scheduler.loaded(key, self.now))

    @rule(key=st.sampled_from("abcd"))
    def expire(self, key: str) -> None:
        self.take(self.scheduler.expire(key, self.now))

    @rule(seconds=st.floats(0, 10))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.take(self.scheduler.tick(self.now))

    @invariant()
    def slots_are_never_exceeded(self) -> None:
        for runner in self.scheduler.runners.values():
            assert len(runner.running) <= runner.slots

    @invariant()
    def no_more_models_than_allowed_and_one_load_at_a_time(self) -> None:
        assert len(self.scheduler.runners) <= 2
        assert len(self.loads) <= 1

    @invariant()
    def nobody_is_lost(self) -> None:
        held = {ticket for runner in self.scheduler.runners.values() for ticket in runner.users}
        assert held | {request.ticket for request in self.scheduler.pending} == set(self.open)

    @invariant()
    def somebody_works_while_anybody_waits(self) -> None:
        if self.scheduler.pending:
            assert any(runner.users for runner in self.scheduler.runners.values())


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
