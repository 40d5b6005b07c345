"""The sum of all waiting, as a fluid."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.scheduling.fluid import Capacity, waiting, with_more

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


@given(numbers, numbers, steps, st.floats(0, 200), st.floats(0, 100), numbers)
def test_more_capacity_never_makes_anybody_wait_longer(
    queued: float, arriving: float, capacities: list[Capacity], horizon: float, at: float, rate: float
) -> None:
    """And none is negative."""
    less = waiting(queued, arriving, capacities, horizon)
    more = waiting(queued, arriving, with_more(capacities, at, rate), horizon)
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
