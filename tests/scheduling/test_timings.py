"""Final chunks that cannot be true."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.scheduling.timings import believable

NOTHING = (-1.0,) * 5


def test_what_says_nothing_is_no_lie() -> None:
    """Nor is what adds up."""
    assert believable(*NOTHING, -1.0)
    assert believable(100, 200, 0.0, 0.5, 4.0, 4.6)
    assert believable(100, 200, 0.0, 0.5, 4.0, -1.0)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, -5.0, 3600.0])
def test_no_part_takes_longer_than_the_whole(wrong: float) -> None:
    """Hours in an exchange of seconds, times below zero, and what is no number."""
    for place in range(3):
        seconds = [0.1, 0.1, 0.1]
        seconds[place] = wrong
        load, prompt, output = seconds
        assert not believable(1, 1, load, prompt, output, 2.0)


def test_nobody_reads_that_many_tokens() -> None:
    """A counter that has overflowed."""
    assert not believable(2**63, 1, 0.0, 0.1, 0.1, 2.0)
    assert not believable(1, math.nan, 0.0, 0.1, 0.1, 2.0)


@given(st.tuples(*[st.floats(0, 100)] * 3), st.floats(0, 10))
def test_whatever_fits_into_the_exchange_is_believed(parts: tuple[float, float, float], rest: float) -> None:
    """With what nobody accounts for: waiting, and the network."""
    assert believable(1, 1, *parts, sum(parts) + rest)
