"""How many slots are counted on where others use a host too."""

from hypothesis import given
from hypothesis import strategies as st

from olladist.scheduling.trust import Trust


def test_one_trace_takes_one_slot_for_a_while() -> None:
    """Then all are ours again."""
    trust = Trust()
    trust.saw(1, 100.0)

    assert [trust.slots(4, now) for now in (100.0, 130.0, 160.0)] == [3, 3, 4]
    assert trust.traces == 1


def test_others_who_are_always_there_take_all_but_one() -> None:
    """One slot is ours in any case; all are again some minutes after they have left."""
    trust = Trust()
    for reading in range(100):
        trust.saw(2, 2.0 * reading)

    assert (trust.slots(4, 198.0), trust.slots(1, 198.0)) == (1, 1)
    assert trust.slots(4, 198.0 + 300.0) == 4


def test_no_traces_no_change() -> None:
    """However often one looks."""
    trust = Trust()
    for reading in range(100):
        trust.saw(0, 2.0 * reading)

    assert trust.slots(4, 200.0) == 4


@given(st.lists(st.tuples(st.integers(-3, 5), st.floats(-50, 500)), max_size=50), st.integers(1, 64))
def test_slots_stay_within_their_bounds(readings: list[tuple[int, float]], slots: int) -> None:
    """Also where a clock goes backwards."""
    trust, now = Trust(), 0.0
    for traces, passed in readings:
        now += passed
        trust.saw(traces, now)
        assert 1 <= trust.slots(slots, now) <= slots
        assert 0.0 <= trust.share <= 1.0
    assert trust.slots(slots, max(now, trust.at) + 600.0) == slots


@given(st.integers(0, 200), st.integers(1, 16))
def test_what_is_ours_is_what_others_leave(traces: int, slots: int) -> None:
    """In whole slots where there are several, in part of the only one."""
    trust = Trust()
    for reading in range(traces):
        trust.saw(1, 2.0 * reading)
    now = 2.0 * traces
    assert 0.0 <= trust.ours(slots, now) <= 1.0
    assert Trust().ours(slots, now) == 1.0
    if traces > 100:
        assert trust.ours(1, now) < 0.1
