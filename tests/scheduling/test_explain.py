"""Why a request would go where: as it goes."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from olladist.scheduling.adaptive import Adaptive
from olladist.scheduling.decisions import Bind, Decision
from olladist.scheduling.explain import Explained, Verdict, explain
from olladist.scheduling.line import Waiting
from olladist.scheduling.machines import Machine

GB = 10**9
MODELS = ("a", "b", "c", "c|num_ctx=9")
GOES = {Verdict.TAKES, Verdict.LOADS}

Event = Callable[[Adaptive, float, list[int], int], Sequence[Decision]]


def fleet(*machines: Machine, models: Sequence[str] = "abc") -> Adaptive:
    adaptive = Adaptive()
    for machine in machines:
        adaptive.add(machine)
        adaptive.hold(machine.id, dict.fromkeys(models, 8 * GB))
    return adaptive


def ask(ticket: int, model: str = "a", now: float = 0.0, **more: object) -> Waiting:
    return Waiting(ticket, model, now, **more)  # type: ignore[arg-type]  # any field


def explained(adaptive: Adaptive, waiting: Waiting, now: float) -> Explained:
    return explain(adaptive, waiting, adaptive.machines, now)


def verdicts(adaptive: Adaptive, waiting: Waiting, now: float) -> dict[int, Verdict]:
    return {number: each.verdict for number, each in explained(adaptive, waiting, now).machines.items()}


def picture(value: Any) -> Any:
    """All that is in it, to be compared."""
    if isinstance(value, dict):
        return [(key, picture(each)) for key, each in value.items()]
    if isinstance(value, list | tuple):
        return [picture(each) for each in value]
    if is_dataclass(value):
        return [(field.name, picture(getattr(value, field.name))) for field in fields(value)]
    if hasattr(type(value), "__slots__") and not isinstance(value, str | int | float | frozenset | set | type(None)):
        return [(name, picture(getattr(value, name))) for name in type(value).__slots__]
    return picture(vars(value)) if hasattr(value, "__dict__") else value


# A state that anything may have led to.


def arrives(model: str, near: int, key: str) -> Event:
    return lambda adaptive, now, tickets, new: adaptive.arrive(ask(new, model, now, near=near, key=key), now)


def _one(tickets: list[int], which: int) -> int:
    return tickets[which % len(tickets)] if tickets else -1


def starts(which: int) -> Event:
    return lambda adaptive, now, tickets, new: adaptive.started(_one(tickets, which), now)


def ends(which: int) -> Event:
    def event(adaptive: Adaptive, now: float, tickets: list[int], new: int) -> Sequence[Decision]:
        adaptive.speeds.answered(1 + which % 3, "a", 8 * GB, (100, 0.2), (40, 0.1 + which / 4))
        return adaptive.finished(_one(tickets, which), now)

    return event


def listed(number: int, models: set[str]) -> Event:
    return lambda adaptive, now, tickets, new: adaptive.seen_loaded(number, models, now)


def state(number: int, up: bool, well: bool) -> Event:
    return lambda adaptive, now, tickets, new: adaptive.set_up(number, up=up, well=well, now=now)


MACHINES = st.integers(1, 3)
WHICH = st.integers(0, 30)
EVENTS = st.one_of(
    st.builds(arrives, st.sampled_from(MODELS), st.integers(0, 2), st.sampled_from("xy")),
    st.builds(starts, WHICH),
    st.builds(ends, WHICH),
    st.builds(listed, MACHINES, st.sets(st.sampled_from("abc"), max_size=2)),
    st.builds(state, MACHINES, st.booleans(), st.booleans()),
)


@settings(deadline=None)
@given(
    events=st.lists(st.tuples(EVENTS, st.floats(0, 30)), max_size=30),
    count=st.sampled_from([3, 3, 3, 20]),
    rooms=st.integers(1, 3),
    model=st.sampled_from(MODELS),
    near=st.integers(0, 2),
    key=st.sampled_from("xyz"),
    tried=st.sets(st.integers(1, 20)),
)
def test_a_request_goes_where_it_is_said_to_go(
    events: list[tuple[Event, float]], count: int, rooms: int, model: str, near: int, key: str, tried: set[int]
) -> None:
    """Whatever has been before; where none is named it waits, in the place that is named. To ask changes nothing."""
    adaptive = fleet(*(Machine(n, slots=1 + n % 2, models_max=rooms) for n in range(1, count + 1)))
    now, tickets = 0.0, list[int]()
    for number, (event, later) in enumerate(events):
        now += later
        tickets += [each.ticket for each in event(adaptive, now, tickets, number) if isinstance(each, Bind)]
    waiting = ask(1000, model, now, near=near, key=key, tried=frozenset(tried))
    was = picture(adaptive)
    alone = copy.deepcopy(adaptive)

    said = explained(adaptive, waiting, now)

    assert picture(adaptive) == was
    decisions = adaptive.arrive(waiting, now)
    assert decisions == alone.arrive(waiting, now)
    bound = [each.machine for each in decisions if isinstance(each, Bind) and each.ticket == 1000]
    assert bound == ([] if said.machine is None else [said.machine])
    assert said.position == (0 if bound else adaptive.queued(model))
    assert [number for number, each in said.machines.items() if each.verdict in GOES] == bound
    if said.machine is not None:
        loads = adaptive.is_loading(1000) and said.machines[said.machine].verdict is Verdict.LOADS
        assert loads == (not said.machines[said.machine].in_memory)
    for number, each in said.machines.items():
        switch = adaptive.machines[number].switch
        planned = switch is not None and switch.into == model and adaptive.machines[number].up
        assert (each.verdict is Verdict.SWITCHES) <= planned


def test_each_machine_has_its_reason() -> None:
    """In one fleet: a slot here, another there, one that is full, that loads, that has it on disk, that has not, that is away."""
    adaptive = fleet(*(Machine(n, slots=1) for n in range(1, 9)))
    adaptive.hold(6, {"b": GB})
    for number in (1, 2, 3):
        adaptive.seen_loaded(number, ["a"], 0.0)
    adaptive.speeds.answered(1, "a", 8 * GB, (100, 0.1), (100, 1.0))
    adaptive.found(1, 3, "a", 0.0)
    adaptive.set_up(7, up=False, now=0.0)
    adaptive.set_up(8, up=True, well=False, now=0.0)
    adaptive.arrive(ask(2, "b", 0.0, tried=frozenset({1, 2, 3, 5, 6, 8})), 0.0)

    assert verdicts(adaptive, ask(9, "a", 1.0, tried=frozenset({5})), 1.0) == {
        1: Verdict.TAKES,
        2: Verdict.FREE,
        3: Verdict.FULL,
        4: Verdict.BUSY,
        5: Verdict.FAILED,
        6: Verdict.ABSENT,
        7: Verdict.DOWN,
        8: Verdict.POORLY,
    }


def test_a_load_names_what_it_costs() -> None:
    """Gain, harm and seconds; and the model that is unloaded for it."""
    adaptive = fleet(Machine(1, models_max=1), Machine(2, models_max=1))
    adaptive.seen_loaded(1, ["b"], 0.0)
    adaptive.seen_loaded(2, ["c"], 0.0)
    adaptive.arrive(ask(1, "c", 4.0), 4.0)
    said = explained(adaptive, ask(2, "a", 5.0), 5.0)

    assert said.machine == 1
    here, there = said.machines[1], said.machines[2]
    assert (here.verdict, here.other, here.wait) == (Verdict.LOADS, "b", 0.0)
    assert (there.verdict, there.other) == (Verdict.WORSE, "c")
    assert said.wait == here.load > 5.0
    assert here.plan is not None
    assert there.plan is not None
    assert here.plan.gain > here.plan.harm
    assert here.plan.net > there.plan.net
    assert there.wait == there.plan.drain > 0.0


def test_what_is_in_use_is_not_unloaded_for_one_request() -> None:
    """It waits for the model, and is told who is in the way."""
    adaptive = fleet(Machine(1, models_max=1))
    adaptive.seen_loaded(1, ["b"], 0.0)
    for number in range(30):
        adaptive.arrive(ask(number, "b", 1.0), 1.0)
    said = explained(adaptive, ask(99, "a", 2.0), 2.0)

    assert (said.machine, said.position) == (None, 1)
    assert (said.machines[1].verdict, said.machines[1].other) == (Verdict.KEPT, "b")


def test_what_makes_room_takes_no_more() -> None:
    """The machine switches as soon as it is idle: for one model it is the place, for the other none."""
    adaptive = fleet(Machine(1, models_max=1))
    adaptive.seen_loaded(1, ["b"], 0.0)
    adaptive.arrive(ask(1, "b", 1.0), 1.0)
    said = explained(adaptive, ask(2, "a", 2.0), 2.0)
    assert (said.machine, said.machines[1].verdict, said.machines[1].other) == (None, Verdict.SWITCHES, "b")
    assert said.wait is not None
    assert said.wait > said.machines[1].load

    adaptive.arrive(ask(2, "a", 2.0), 2.0)
    assert verdicts(adaptive, ask(3, "b", 3.0), 3.0) == {1: Verdict.LEAVING}
    assert verdicts(adaptive, ask(3, "a", 3.0), 3.0) == {1: Verdict.SWITCHES}


def test_a_key_that_has_asked_for_nothing_is_not_behind_a_flood() -> None:
    """Its place is the last, but not its turn, and so the time that it waits is short."""
    adaptive = fleet(Machine(1, models_max=1), models="a")
    adaptive.seen_loaded(1, ["a"], 0.0)
    adaptive.speeds.answered(1, "a", 8 * GB, (100, 1.0), (100, 3.0))
    for number in range(40):
        adaptive.arrive(ask(number, "a", 1.0, key="flood"), 1.0)
    flood = explained(adaptive, ask(99, "a", 2.0, key="flood"), 2.0)
    one = explained(adaptive, ask(99, "a", 2.0, key="one"), 2.0)

    assert (flood.position, flood.before, flood.wait) == (40, 39, 3.0 + 39 * 4.0)
    assert (one.position, one.before <= 1, one.wait is not None and one.wait <= 7.0) == (40, True, True)
