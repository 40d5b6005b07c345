"""How long a request would wait."""

from hypothesis import given
from hypothesis import strategies as st

from olladist.scheduling.adaptive import Adaptive
from olladist.scheduling.decisions import Bind
from olladist.scheduling.estimate import expected_wait
from olladist.scheduling.line import Waiting
from olladist.scheduling.machines import Machine

GB = 10**9


def fleet(*machines: Machine) -> Adaptive:
    adaptive = Adaptive()
    for machine in machines:
        adaptive.add(machine)
        adaptive.hold(machine.id, {"a": 8 * GB})
        adaptive.seen_loaded(machine.id, ["a"], 0.0)
    return adaptive


def test_a_free_slot_is_no_wait_whatever_is_known() -> None:
    """And a model that is nowhere in memory, or that nobody has, is one of which nothing can be said."""
    adaptive = fleet(Machine(1))
    adaptive.hold(2, {})

    assert expected_wait(adaptive.known, "a", 1.0) == 0.0
    assert expected_wait(adaptive.known, "b", 1.0) is None
    adaptive.seen_loaded(1, [], 10.0)
    assert expected_wait(adaptive.known, "a", 10.0) is None


def test_nothing_is_said_before_anything_was_learned() -> None:
    """Of how long answers take there: a guess from the size of a model would be a number like any other."""
    adaptive = fleet(Machine(1))
    adaptive.arrive(Waiting(1, "a", 1.0), 1.0)
    assert expected_wait(adaptive.known, "a", 1.0) is None

    adaptive.speeds.answered(1, "a", 8 * GB, (100, 1.0), (100, 3.0))
    assert expected_wait(adaptive.known, "a", 1.0) == 4.0
    assert expected_wait(adaptive.known, "a", 3.0) == 2.0


def test_a_load_that_is_under_way_is_waited_for() -> None:
    """Then a second slot is there at once, and the first when its request is done."""
    adaptive = fleet(Machine(1, slots=2, models_max=1))
    adaptive.hold(1, {"a": 8 * GB, "b": 12 * GB})
    adaptive.speeds.answered(1, "b", 12 * GB, (100, 1.0), (100, 3.0))
    adaptive.arrive(Waiting(1, "b", 1.0), 1.0)
    load = adaptive.speeds.load_seconds(1, 12 * GB)

    assert expected_wait(adaptive.known, "b", 2.0) == load - 1.0
    adaptive.arrive(Waiting(2, "b", 2.0), 2.0)
    assert expected_wait(adaptive.known, "b", 2.0) == load - 1.0 + 4.0


@given(
    slots=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    seconds=st.lists(st.floats(1.0, 20.0), min_size=3, max_size=3),
    before=st.integers(0, 12),
)
def test_where_all_take_as_long_as_usual_it_is_right(slots: list[int], seconds: list[float], before: int) -> None:
    """Of machines of different speeds."""
    adaptive = fleet(*(Machine(n, slots=count) for n, count in enumerate(slots)))
    usual = {}
    for number in range(len(slots)):
        adaptive.speeds.answered(number, "a", 8 * GB, (100, seconds[number] / 2), (100, seconds[number] / 2))
        usual[number] = adaptive.speeds.service_seconds(number, "a", 8 * GB)
    ends: dict[int, float] = {}
    now, last = 0.0, sum(slots) + before

    def carry_out(decisions: object) -> None:
        for each in decisions if isinstance(decisions, list) else []:
            assert isinstance(each, Bind)
            ends[each.ticket] = now + usual[each.machine]

    for ticket in range(last):
        carry_out(adaptive.arrive(Waiting(ticket, "a", now), now))
    expected = expected_wait(adaptive.known, "a", now)
    carry_out(adaptive.arrive(Waiting(last, "a", now), now))
    while last not in ends:
        ticket = min((ticket for ticket in ends if ends[ticket] >= now), key=lambda ticket: ends[ticket])
        now = ends.pop(ticket)
        carry_out(adaptive.finished(ticket, now))

    assert expected is not None
    assert abs(expected - now) < 1e-6
