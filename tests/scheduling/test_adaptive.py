"""Late binding with exact slots: what must hold whatever happens, and what a user would notice."""

from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from olladist.scheduling.adaptive import PRELOAD_AGAIN, Adaptive
from olladist.scheduling.decisions import Bind, Decision, Preload, Unload
from olladist.scheduling.line import Waiting
from olladist.scheduling.loads import AGE_MAX, FORGOTTEN
from olladist.scheduling.machines import Machine

GB = 10**9
MODELS = ("a", "b", "c", "c|num_ctx=9")


def fleet(*machines: Machine, models: Sequence[str] = "abc", size: int = 8 * GB) -> Adaptive:
    adaptive = Adaptive()
    for machine in machines:
        adaptive.add(machine)
        adaptive.hold(machine.id, dict.fromkeys(models, size))
    return adaptive


def ask(ticket: int, model: str = "a", now: float = 0.0, **more: object) -> Waiting:
    return Waiting(ticket, model, now, **more)  # type: ignore[arg-type]  # any field


def test_the_first_request_loads_its_model() -> None:
    """And the second waits here until the model is there, for nothing else would be gained."""
    adaptive = fleet(Machine(1, slots=2, models_max=1))

    assert adaptive.arrive(ask(1), 0.0) == [Bind(1, 1)]
    assert adaptive.arrive(ask(2), 0.1) == []
    assert adaptive.started(1, 5.0) == [Bind(2, 1)]


def test_no_more_than_the_slots_are_ever_taken() -> None:
    """The third waits until one of the first two is done."""
    adaptive = fleet(Machine(1, slots=2, models_max=1))
    adaptive.seen_loaded(1, ["a"], 0.0)
    bound = [adaptive.arrive(ask(ticket), 1.0) for ticket in (1, 2, 3)]

    assert bound == [[Bind(1, 1)], [Bind(2, 1)], []]
    assert adaptive.finished(2, 2.0) == [Bind(3, 1)]


def test_a_warm_machine_is_taken_before_a_cold_one() -> None:
    """A free slot where the model is in memory needs no load."""
    adaptive = fleet(Machine(1, slots=1), Machine(2, slots=1))
    adaptive.seen_loaded(2, ["a"], 0.0)

    assert adaptive.arrive(ask(1), 1.0) == [Bind(1, 2)]


def test_a_hot_model_gets_a_second_machine() -> None:
    """When what waits for one is more than the load of another costs."""
    adaptive = fleet(Machine(1, slots=1), Machine(2, slots=1))
    adaptive.seen_loaded(1, ["a"], 0.0)
    decisions = [decision for ticket in range(10) for decision in adaptive.arrive(ask(ticket, now=1.0), 1.0)]

    assert {decision.machine for decision in decisions} == {1, 2}


def test_a_model_makes_room_that_nobody_waits_for() -> None:
    """It is unloaded by name: Ollama itself would choose by keep-alive, and might take the wrong one."""
    adaptive = fleet(Machine(1, slots=1, models_max=2))
    adaptive.seen_loaded(1, ["a", "b"], 0.0)
    for ticket in range(3):
        adaptive.arrive(ask(ticket, "a", 1.0), 1.0 + ticket)

    assert adaptive.arrive(ask(9, "c", 60.0), 60.0) == [Unload(1, "b"), Bind(9, 1)]


def test_a_cold_model_is_not_starved_by_a_hot_one() -> None:
    """Clients in a closed loop on one model; a request for another gets the machine, within the bound on age and the time of the work."""
    adaptive = fleet(Machine(1, slots=1, models_max=1))
    now, ticket, running = 0.0, 0, -1
    waits = {}
    decisions: list[Decision] = list(adaptive.arrive(ask(0, "a", now), now))
    adaptive.arrive(ask(1000, "b", 1.0), 1.0)
    while 1000 not in waits and now < 10 * AGE_MAX:
        now += 1.0
        if running >= 0:
            adaptive.speeds.answered(1, "a", 8 * GB, (100, 0.2), (40, 0.8))
            decisions += adaptive.finished(running, now)
        ticket += 1
        decisions += adaptive.arrive(ask(ticket, "a", now), now)
        decisions += adaptive.tick(now)
        for decision in decisions:
            if isinstance(decision, Bind):
                waits[decision.ticket] = now
                running = decision.ticket
                decisions = [*adaptive.started(running, now)]

    assert waits[1000] < 2 * AGE_MAX


def test_one_person_with_two_models_never_waits_for_more_than_the_load() -> None:
    """A machine for one model, which is asked for the one and the other in turns: nobody else wants it, so it switches at once."""
    adaptive = fleet(Machine(1, slots=1, models_max=1))
    for turn in range(12):
        now, model, other = 10.0 * turn, "ab"[turn % 2], "ba"[turn % 2]
        expected = [Unload(1, other), Bind(turn, 1)] if turn else [Bind(0, 1)]
        assert adaptive.arrive(ask(turn, model, now), now) == expected
        adaptive.started(turn, now + 5.0)
        adaptive.finished(turn, now + 8.0)


def test_what_was_deleted_is_not_asked_for_where_it_still_is_in_memory() -> None:
    """Its runner lives on until its time is over, and nobody can reach it; where it is on disk it is loaded."""
    adaptive = fleet(Machine(1, slots=2), Machine(2, slots=2))
    adaptive.seen_loaded(1, ["a"], 0.0)
    adaptive.hold(1, {"b": 8 * GB})
    assert adaptive.arrive(ask(1, now=1.0), 1.0) == [Bind(1, 2)]

    adaptive.hold(1, {"a": 8 * GB})
    assert adaptive.arrive(ask(2, now=2.0), 2.0) == [Bind(2, 1)]


def test_who_leaves_is_forgotten() -> None:
    """Its slot goes to the next, and so does its place."""
    adaptive = fleet(Machine(1, slots=1, models_max=1))
    adaptive.seen_loaded(1, ["a"], 0.0)
    for ticket in (1, 2, 3):
        adaptive.arrive(ask(ticket), 1.0)
    assert adaptive.leave(2, 2.0) == []

    assert adaptive.leave(1, 3.0) == [Bind(3, 1)]
    assert adaptive.queued("a") == 0


def test_who_has_waited_too_long_for_its_client_is_taken_out() -> None:
    """And only that one."""
    adaptive = fleet(Machine(1, slots=1, models_max=1))
    adaptive.seen_loaded(1, ["a"], 0.0)
    for ticket in (1, 2, 3):
        adaptive.arrive(ask(ticket, deadline=10.0 if ticket == 2 else 20.0), 1.0)

    assert [waiting.ticket for waiting in adaptive.expire(15.0)] == [2]
    assert adaptive.finished(1, 16.0) == [Bind(3, 1)]


def test_a_conversation_stays_where_its_cache_is() -> None:
    """Among machines that are about as fast; but it never waits for it."""
    adaptive = fleet(Machine(1, slots=1), Machine(2, slots=1))
    adaptive.seen_loaded(1, ["a"], 0.0)
    adaptive.seen_loaded(2, ["a"], 0.0)
    adaptive.arrive(ask(1), 1.0)
    (second,) = adaptive.arrive(ask(2, near=77), 1.0)
    adaptive.finished(1, 2.0)
    adaptive.finished(2, 2.0)
    assert isinstance(second, Bind)

    assert adaptive.arrive(ask(3, near=77), 3.0) == [Bind(3, second.machine)]
    assert len(adaptive.arrive(ask(4, near=77), 3.0)) == 1


def test_a_conversation_never_goes_where_it_has_failed() -> None:
    """However near its cache is."""
    adaptive = fleet(Machine(1, slots=1), Machine(2, slots=1))
    adaptive.seen_loaded(1, ["a"], 0.0)
    adaptive.seen_loaded(2, ["a"], 0.0)
    (first,) = adaptive.arrive(ask(1, near=7), 1.0)
    assert isinstance(first, Bind)
    adaptive.finished(1, 2.0)
    others = [ask(2, near=7, tried=frozenset({first.machine})), ask(3, near=7)]

    assert [adaptive.arrive(each, 3.0) for each in others] == [[Bind(2, 3 - first.machine)], [Bind(3, first.machine)]]


def test_a_machine_that_is_down_gets_nothing() -> None:
    """What waits for it goes there when it is back."""
    adaptive = fleet(Machine(1, slots=1))
    adaptive.set_up(1, up=False, now=0.0)
    assert adaptive.arrive(ask(1), 1.0) == []

    assert adaptive.set_up(1, up=True, now=2.0) == [Bind(1, 1)]


def test_a_failed_load_frees_the_machine() -> None:
    """The next request tries elsewhere, or there again."""
    adaptive = fleet(Machine(1, slots=1, models_max=1), Machine(2, slots=1, models_max=1))
    (first,) = adaptive.arrive(ask(1), 0.0)
    assert isinstance(first, Bind)
    adaptive.finished(1, 1.0)

    (again,) = adaptive.arrive(ask(1, tried=frozenset({first.machine})), 1.0)
    assert again == Bind(1, 3 - first.machine)


def test_other_options_are_another_runner_of_the_same_weights() -> None:
    """They never stand beside each other: Ollama reloads, so the first has to be idle and goes."""
    adaptive = fleet(Machine(1, slots=2, models_max=3))
    adaptive.seen_loaded(1, ["a"], 0.0)
    adaptive.arrive(ask(1, "a", 1.0), 1.0)
    assert adaptive.arrive(ask(2, "a|num_ctx=8192", 2.0), 2.0) == []

    assert adaptive.finished(1, 3.0) == [Unload(1, "a"), Bind(2, 1)]
    assert adaptive.arrive(ask(3, "a|num_ctx=8192", 4.0), 4.0) == []
    assert adaptive.seen_loaded(1, ["a"], 20.0) == [Bind(3, 1)]  # a listing shows the weights alone


def test_what_holds_weights_holds_them_with_any_options() -> None:
    """And when it does not hold them any more, with none."""
    adaptive = fleet(Machine(1, slots=1), Machine(2, slots=1))
    adaptive.arrive(ask(1, "a|num_ctx=1", 1.0), 1.0)
    adaptive.hold(1, {})
    adaptive.hold(2, {})
    adaptive.arrive(ask(2, "a|num_ctx=1", 1.0), 1.0)

    assert not adaptive.may_be_served(2)


def test_who_has_failed_on_the_only_machine_that_serves_gets_another() -> None:
    """That one counts for nothing to it, however idle it is."""
    adaptive = fleet(Machine(1, slots=1, models_max=1), Machine(2, slots=1, models_max=1))
    adaptive.seen_loaded(1, ["a"], 0.0)
    adaptive.seen_loaded(2, ["b"], 0.0)

    assert adaptive.arrive(ask(1, tried=frozenset({1})), 1.0) == [Unload(2, "b"), Bind(1, 2)]


def test_what_a_machine_has_loaded_before_it_counts_as_up_is_used() -> None:
    """Its listing is read first, and says what is in its memory."""
    adaptive = fleet(Machine(1, slots=1, up=False), Machine(2, slots=1, up=False))
    adaptive.seen_loaded(1, ["a"], 0.0)
    adaptive.set_up(1, up=True, now=1.0)
    adaptive.set_up(2, up=True, now=1.0)

    assert adaptive.arrive(ask(1), 2.0) == [Bind(1, 1)]


def test_a_machine_that_is_not_well_works_where_no_other_can() -> None:
    """And gives way as soon as one can."""
    adaptive = fleet(Machine(1, slots=1), Machine(2, slots=1))
    adaptive.seen_loaded(1, ["a"], 0.0)
    adaptive.set_up(1, up=True, well=False, now=1.0)
    adaptive.set_up(2, up=False, now=1.0)
    assert adaptive.arrive(ask(1), 2.0) == [Bind(1, 1)]
    adaptive.finished(1, 3.0)
    adaptive.set_up(2, up=True, now=4.0)

    assert adaptive.arrive(ask(2), 5.0) == [Bind(2, 2)]


def test_a_slot_is_a_good_place_until_there_is_a_better_one() -> None:
    """One that is free on a much faster machine, none on one that is hardly faster; and none that is not to be given any more."""
    adaptive = fleet(Machine(1, slots=2), Machine(2, slots=1))
    for number in (1, 2):
        adaptive.seen_loaded(number, ["a"], 0.0)
    adaptive.speeds.answered(1, "a", 8 * GB, (100, 0.2), (40, 8.0))
    adaptive.speeds.answered(2, "a", 8 * GB, (100, 0.2), (40, 0.8))
    places = {ticket: adaptive.arrive(ask(ticket), 1.0) for ticket in (1, 2)}
    fast, slow = sorted(places, key=lambda ticket: -places[ticket][0].machine)
    assert adaptive.is_well_placed(slow)
    assert adaptive.is_well_placed(fast)

    adaptive.finished(fast, 2.0)
    assert not adaptive.is_well_placed(slow)
    adaptive.set_up(2, up=False, now=2.0)
    assert adaptive.is_well_placed(slow)
    assert not adaptive.is_well_placed(fast), "which has ended"


def test_a_guess_moves_nobody() -> None:
    """A free machine that nothing is known of is no better place, however fast its like should be by the model's size; one that was found slow is none either."""
    adaptive = fleet(Machine(1, slots=1), Machine(2, slots=1))
    for number in (1, 2):
        adaptive.seen_loaded(number, ["a"], 0.0)
    bound, *_ = adaptive.arrive(ask(1), 1.0)
    assert isinstance(bound, Bind)
    other = 3 - bound.machine
    adaptive.speeds.answered(bound.machine, "a", 8 * GB, (100, 0.2), (40, 40.0))
    assert adaptive.is_well_placed(1)

    adaptive.speeds.answered(other, "a", 8 * GB, (100, 0.2), (40, 40.0))  # it is listed as it was guessed
    assert adaptive.is_well_placed(1)


def test_slots_go_round_until_nobody_has_twice_as_much_to_do() -> None:
    """Who follows in the slot of a crowded machine asks anew when another has become free, and is not sent to and fro."""
    adaptive = fleet(Machine(1, slots=8), Machine(2, slots=8))
    adaptive.seen_loaded(1, ["a"], 0.0)
    for ticket in range(4):
        assert adaptive.arrive(ask(ticket), 1.0) == [Bind(ticket, 1)]
        assert adaptive.is_well_placed(ticket)
    adaptive.seen_loaded(2, ["a"], 2.0)
    assert not adaptive.is_well_placed(3)

    adaptive.finished(3, 3.0)
    assert adaptive.arrive(ask(4), 3.0) == [Bind(4, 2)]
    assert all(adaptive.is_well_placed(ticket) for ticket in (0, 1, 2, 4))


@pytest.mark.parametrize("how", ["fewer slots", "not well", "another model", "deleted"])
def test_a_slot_that_is_no_more_to_be_given_is_no_good_place(how: str) -> None:
    """Who follows in it would be one too many, or where nobody is sent any more."""
    adaptive = fleet(Machine(1, slots=2, models_max=1), Machine(2, slots=2, models_max=1))
    adaptive.seen_loaded(1, ["a"], 0.0)
    adaptive.arrive(ask(1), 1.0)
    adaptive.arrive(ask(2), 1.0)
    assert adaptive.is_well_placed(1)

    if how == "fewer slots":
        adaptive.resize(1, 1, 1, 2.0)
    elif how == "not well":
        adaptive.set_up(1, up=True, well=False, now=2.0)
    elif how == "another model":
        adaptive.set_up(2, up=False, now=2.0)
        adaptive.arrive(ask(3, "b", 2.0), 2.0)
        adaptive.tick(2.0 + AGE_MAX)
    else:
        adaptive.hold(1, {"b": 8 * GB})
    assert not adaptive.is_well_placed(1)


def test_equal_machines_get_one_each_before_one_gets_two() -> None:
    """They would share its GPU while another does nothing."""
    adaptive = fleet(*(Machine(number, slots=4) for number in (1, 2, 3)))
    for number in (1, 2, 3):
        adaptive.seen_loaded(number, ["a", "b"], 0.0)
    places = [adaptive.arrive(ask(ticket), 1.0)[0].machine for ticket in range(6)]
    assert sorted(places[:3]) == sorted(places[3:]) == [1, 2, 3]

    adaptive.finished(places.index(2), 2.0)
    assert adaptive.arrive(ask(6, "b"), 2.0) == [Bind(6, 2)], "whatever model the others run"


def test_a_fast_machine_gets_several_before_a_slow_one_gets_any() -> None:
    """As long as they are done sooner there beside each other."""
    adaptive = fleet(Machine(1, slots=8), Machine(2, slots=8))
    for number, seconds in ((1, 1.0), (2, 1.5)):
        adaptive.seen_loaded(number, ["a"], 0.0)
        adaptive.answered(number, "a", (100, seconds), (100, seconds))

    assert [adaptive.arrive(ask(ticket), 1.0)[0].machine for ticket in range(4)] == [1, 1, 1, 2]


def test_a_machine_of_which_nothing_is_known_gets_its_part() -> None:
    """It is taken for one like the others, however wrong a guess by the model's size would be."""
    adaptive = fleet(Machine(1, slots=4), Machine(2, slots=4))
    for number in (1, 2):
        adaptive.seen_loaded(number, ["a"], 0.0)
    first, *_ = adaptive.arrive(ask(0), 1.0)
    adaptive.answered(first.machine, "a", (100, 0.001), (100, 0.01))
    adaptive.finished(0, 2.0)

    places = [adaptive.arrive(ask(ticket), 3.0)[0].machine for ticket in (1, 2)]
    assert sorted(places) == [1, 2]


def crowded(*machines: Machine) -> tuple[Adaptive, float]:
    """Four requests for "a" at a time, for two minutes, on the first of these machines; and the time then."""
    adaptive = fleet(*machines)
    adaptive.seen_loaded(1, ["a"], 0.0)
    now = 0.0
    for ticket in range(120):
        now += 1.0
        assert adaptive.arrive(ask(ticket, now=now), now) == [Bind(ticket, 1)]
        if ticket >= 4:
            adaptive.answered(1, "a", (100, 0.1), (160, 3.9))
            adaptive.finished(ticket - 4, now)
    return adaptive, now


def test_a_model_whose_requests_crowd_each_other_gets_another_machine() -> None:
    """Nobody waits for a slot, and none is made to wait for the load."""
    adaptive, now = crowded(Machine(1, slots=8), Machine(2, slots=8, models_max=1))
    adaptive.seen_loaded(2, ["b"], now)
    (unload, load) = adaptive.tick(now)
    assert unload == Unload(2, "b")
    assert isinstance(load, Preload)
    assert (load.machine, load.model) == (2, "a")
    assert adaptive.tick(now + 1.0) == [], "one load at a time"
    assert adaptive.arrive(ask(500, now=now), now) == [Bind(500, 1)]

    adaptive.started(load.ticket, now + 6.0)
    adaptive.finished(load.ticket, now + 6.0)
    assert adaptive.arrive(ask(501, now=now), now + 6.0) == [Bind(501, 2)]


def test_a_load_that_has_failed_is_not_tried_every_second() -> None:
    """The machine may be too small for it; who waits for the model can still have it tried."""
    adaptive, now = crowded(Machine(1, slots=8), Machine(2, slots=8))
    (load,) = adaptive.tick(now)
    assert isinstance(load, Preload)
    adaptive.finished(load.ticket, now)
    assert adaptive.tick(now + 1.0) == []
    assert adaptive.fork().tick(now + 1.0) == []

    adaptive.set_up(1, up=False, now=now)
    assert adaptive.arrive(ask(500, now=now), now) == [Bind(500, 2)]
    adaptive.leave(500, now)
    adaptive.set_up(1, up=True, now=now)
    for ticket in range(600, 800):
        now += PRELOAD_AGAIN / 200
        adaptive.arrive(ask(ticket, now=now), now)
        adaptive.leave(ticket, now)
    adaptive.seen_loaded(1, ["a"], now)
    assert (1, "a") not in adaptive._failed
    adaptive.tick(now + 1.0)
    assert not adaptive._failed


def test_requests_that_hardly_meet_get_no_other_machine() -> None:
    """Its memory may be wanted for something else."""
    adaptive = fleet(Machine(1, slots=8), Machine(2, slots=8))
    adaptive.seen_loaded(1, ["a"], 0.0)
    for ticket in range(100):
        now = 10.0 * ticket
        assert adaptive.arrive(ask(ticket, now=now), now) == [Bind(ticket, 1)]
        adaptive.answered(1, "a", (100, 0.1), (160, 3.9))
        adaptive.finished(ticket, now + 4.0)
        assert adaptive.tick(now + 5.0) == []


def test_nobody_is_pushed_out_for_company() -> None:
    """A model that is in use stays where it is, and so does one that somebody was there for minutes ago and may come back to."""
    adaptive, now = crowded(Machine(1, slots=8), Machine(2, slots=8, models_max=1))
    adaptive.seen_loaded(2, ["b"], now)
    adaptive.arrive(ask(900, "b", now), now)
    assert adaptive.tick(now) == []
    adaptive.finished(900, now)
    assert adaptive.tick(now) == []

    adaptive.again(119, [0] * 1000, now + FORGOTTEN)
    assert adaptive.tick(now + FORGOTTEN) == []
    assert [type(decision) for decision in adaptive.tick(now + FORGOTTEN + 1.0)] == [Unload, Preload]


class Fleet(RuleBasedStateMachine):
    """Three machines of two slots and two models each, four models, and everything that can happen, in any order."""

    @initialize()
    def begin(self) -> None:
        self.adaptive = fleet(*(Machine(n, slots=2, models_max=2) for n in (1, 2, 3)), models="abc")
        self.now = 0.0
        self.tickets = 0
        self.models: dict[int, str] = {}
        self.keys: dict[int, str] = {}
        self.bound: dict[int, int] = {}
        self.queued: dict[int, None] = {}  # the one that came first is first
        self.memory: dict[int, set[str]] = {1: set(), 2: set(), 3: set()}

    def carry_out(self, decisions: Sequence[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, Unload):
                assert not any(
                    m == decision.machine and self.models[t] == decision.model for t, m in self.bound.items()
                ), "what runs is never unloaded"
                self.memory[decision.machine].discard(decision.model)
            elif isinstance(decision, Preload):
                assert decision.ticket not in self.models, "its own ticket"
                self.models[decision.ticket] = decision.model
                self.bound[decision.ticket] = decision.machine
            else:
                assert decision.ticket in self.queued, "bound once, and only what waits"
                assert decision.ticket == next(t for t in self.queued if self.same(t, decision.ticket)), "in order"
                del self.queued[decision.ticket]
                self.bound[decision.ticket] = decision.machine
                self.memory[decision.machine].add(self.models[decision.ticket])

    def same(self, one: int, other: int) -> bool:
        """Whether they come from one key and want one model."""
        return (self.models[one], self.keys[one]) == (self.models[other], self.keys[other])

    @rule(model=st.sampled_from(MODELS), near=st.integers(0, 2), key=st.sampled_from("xy"), later=st.floats(0, 30))
    def arrive(self, model: str, near: int, key: str, later: float) -> None:
        self.now += later
        self.tickets += 1
        self.models[self.tickets] = model
        self.keys[self.tickets] = key
        self.queued[self.tickets] = None
        self.carry_out(self.adaptive.arrive(ask(self.tickets, model, self.now, near=near, key=key), self.now))

    @rule(model=st.sampled_from(MODELS), near=st.integers(0, 2), later=st.floats(0, 30))
    def take(self, model: str, near: int, later: float) -> None:
        """The short way, where it is open, has the end of the long one."""
        self.now += later
        self.tickets += 1
        self.models[self.tickets] = model
        self.keys[self.tickets] = "x"
        waiting = ask(self.tickets, model, self.now, near=near, key="x")
        long_way = self.adaptive.fork().arrive(waiting, self.now)
        machine = self.adaptive.take(self.tickets, model, near, self.now)
        if machine is not None:
            assert long_way == [Bind(self.tickets, machine)]
            self.bound[self.tickets] = machine
        else:
            self.queued[self.tickets] = None
            self.carry_out(self.adaptive.arrive(waiting, self.now))

    @rule(which=st.integers(0, 20), later=st.floats(0, 30))
    def start(self, which: int, later: float) -> None:
        self.now += later
        if self.bound:
            ticket = sorted(self.bound)[which % len(self.bound)]
            self.carry_out(self.adaptive.started(ticket, self.now))

    @rule(which=st.integers(0, 20), later=st.floats(0, 30))
    def finish(self, which: int, later: float) -> None:
        self.now += later
        if self.bound:
            ticket = sorted(self.bound)[which % len(self.bound)]
            del self.bound[ticket]
            self.carry_out(self.adaptive.finished(ticket, self.now))
            assert self.adaptive.finished(ticket, self.now) == [], "its slot is given back once"

    @rule(which=st.integers(0, 20))
    def leave(self, which: int) -> None:
        everybody = sorted({*self.queued, *self.bound})
        if everybody:
            ticket = everybody[which % len(everybody)]
            self.queued.pop(ticket, None)
            self.bound.pop(ticket, None)
            self.carry_out(self.adaptive.leave(ticket, self.now))

    @rule(number=st.integers(1, 3))
    def power(self, number: int) -> None:
        """Off and on; what was there comes again."""
        self.carry_out(self.adaptive.set_up(number, up=False, now=self.now))
        self.memory[number].clear()
        again = [ticket for ticket, machine in self.bound.items() if machine == number]
        for ticket in again:
            del self.bound[ticket]
            self.carry_out(self.adaptive.finished(ticket, self.now))
            if ticket < 0:
                continue
            self.queued[ticket] = None
            again_waits = ask(ticket, self.models[ticket], self.now, key=self.keys[ticket])
            self.carry_out(self.adaptive.arrive(again_waits, self.now))
        self.carry_out(self.adaptive.set_up(number, up=True, now=self.now))

    @rule(number=st.integers(1, 3), well=st.booleans())
    def health(self, number: int, well: bool) -> None:
        self.carry_out(self.adaptive.set_up(number, up=True, well=well, now=self.now))

    @rule(number=st.integers(1, 3), models=st.sets(st.sampled_from("abc"), max_size=2))
    def look(self, number: int, models: set[str]) -> None:
        """A listing, which may be older than what we did since."""
        self.carry_out(self.adaptive.seen_loaded(number, models, self.now))

    @rule(number=st.integers(1, 3), models=st.sets(st.sampled_from("abc")))
    def disk(self, number: int, models: set[str]) -> None:
        """Models are deleted and pulled."""
        self.adaptive.hold(number, dict.fromkeys(models, 8 * GB))

    @rule(model=st.sampled_from(MODELS), requests=st.integers(1, 40))
    def come_and_go(self, model: str, requests: int) -> None:
        """Many, one after the other, which are soon done: a model in demand."""
        for _ in range(requests):
            self.arrive(model, 0, "x", 0.1)
            if self.tickets in self.bound:
                self.adaptive.answered(self.bound.pop(self.tickets), model, (100, 1.0), (100, 20.0))
                self.carry_out(self.adaptive.finished(self.tickets, self.now))

    @rule(later=st.floats(0, 200))
    def tick(self, later: float) -> None:
        self.now += later
        self.carry_out(self.adaptive.tick(self.now))

    @invariant()
    def slots_are_never_exceeded(self) -> None:
        for number in (1, 2, 3):
            for model in MODELS:
                here = {t for t, m in self.bound.items() if m == number and self.models[t] == model}
                runner = self.adaptive.machines[number].runners.get(model)
                assert len(here) <= 2
                assert here == set(runner.running if runner else ()), "released once, and not before"

    @invariant()
    def it_counts_what_we_count(self) -> None:
        assert sum(self.adaptive.queued(model) for model in MODELS) == len(self.queued)

    def teardown(self) -> None:
        """Whatever has happened: once everything is held and ends in order, everybody has been served."""
        for number in (1, 2, 3):
            self.adaptive.hold(number, dict.fromkeys("abc", 8 * GB))
        for _ in range(400):
            if not self.queued and not self.bound:
                return
            self.now += 10.0
            for ticket in sorted(self.bound):
                self.carry_out(self.adaptive.started(ticket, self.now))
            for ticket in sorted(self.bound):
                if ticket in self.bound:
                    del self.bound[ticket]
                    self.carry_out(self.adaptive.finished(ticket, self.now))
            self.carry_out(self.adaptive.tick(self.now))
        pytest.fail(f"never served: {sorted(self.queued)}")


TestFleet = Fleet.TestCase
TestFleet.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
