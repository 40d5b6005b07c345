"""The sum of all waiting, as a fluid."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.scheduling.fluid import VARIATION, Capacity, by_chance, waiting, with_more

numbers = st.floats(0, 50)
steps = st.lists(st.tuples(st.floats(0, 100), numbers), max_size=4).map(
    lambda later: [Capacity(0.0, 1.0), *(Capacity(at, rate) for at, rate in sorted(later))]
)


def test_a_queue_that_nobody_serves_waits_all_the_time() -> None:
    """Three for ten seconds are thirty request-seconds; one more each second adds half a square."""
    assert waiting(3, 0, [Capacity(0, 0)], 10) == 30
    assert waiting(3, 1, [Capacity(0, 0)], 10) == 30 + 50


def test_a_queue_that_is_served_is_a_triangle() -> None:
    """Four, two of them served in a second, are gone after two seconds."""
    assert waiting(4, 0, [Capacity(0, 2)], 10) == 4


def test_capacity_that_comes_later_counts_from_then() -> None:
    """Nobody serves for five seconds, then it goes on as above."""
    assert waiting(4, 0, [Capacity(0, 0), Capacity(5, 2)], 10) == 4 * 5 + 4


@given(numbers, numbers, steps, st.floats(0, 200), st.floats(0, 100), numbers, st.floats(0, 2))
def test_more_capacity_never_makes_anybody_wait_longer(
    queued: float, arriving: float, capacities: list[Capacity], horizon: float, at: float, rate: float, slot: float
) -> None:
    """And none is negative."""
    less = waiting(queued, arriving, capacities, horizon, slot)
    more = waiting(queued, arriving, with_more(capacities, at, rate), horizon, slot)
    assert 0 <= more <= less * (1 + 1e-9) + 1e-6


@given(numbers, numbers, numbers, st.floats(0.1, 100))
def test_it_is_what_small_steps_add_up_to(queued: float, arriving: float, rate: float, horizon: float) -> None:
    """The closed form against a plain integration."""
    parts, total, now = 2000, 0.0, queued
    for _ in range(parts):
        after = max(0.0, now + (arriving - rate) * horizon / parts)
        total += (now + after) / 2 * horizon / parts
        now = after
    assert waiting(queued, arriving, [Capacity(0, rate)], horizon) == pytest.approx(total, rel=0.02, abs=0.2)


def test_what_waits_by_chance_is_what_queueing_theory_says() -> None:
    """One slot that is busy half of the time has half a request waiting (Pollaczek and Khinchine, variations of one), and many slots next to none."""
    one = by_chance(0.5, 1.0, 1.0, horizon=1e6) / VARIATION

    assert one == pytest.approx(0.5)
    assert by_chance(8.0, 16.0, 1.0, horizon=1e6) / VARIATION < 0.1 * one


def test_no_more_wait_by_chance_than_can_come_in_the_time() -> None:
    """A server that is busy all the time has no queue of infinite length within a minute."""
    assert by_chance(1.0, 1.0, 1.0, 60.0) == by_chance(1.0, 0.0, 1.0, 60.0) < 60
