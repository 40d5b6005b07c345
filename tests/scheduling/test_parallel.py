"""Slots that a host has not got, learned from requests that waited there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.scheduling.parallel import RETRIED, RETRIED_MAX, Parallel, hidden_wait, is_late


def burst(parallel: Parallel, has: int, sent: int, now: float) -> None:
    for beside in range(1, sent + 1):
        parallel.answered("a", beside, late=beside > has, now=now)


def test_a_host_that_has_fewer_slots_is_found_out() -> None:
    """It says four and has one, or two."""
    for has in (1, 2, 3):
        parallel = Parallel()
        for second in range(3):
            burst(parallel, has, 4, float(second))
        assert parallel.limits(4, 3.0) == {"a": has}


def test_a_host_that_tells_the_truth_is_believed() -> None:
    """Now and then a request is late for another reason."""
    parallel = Parallel()
    for second in range(100):
        parallel.answered("a", 2 + second % 3, late=second % 3 == 0, now=float(second))

    assert parallel.limits(4, 100.0) == {}


def test_alone_nobody_waits_for_a_slot() -> None:
    """Whatever made it late, it was not the number of slots."""
    parallel = Parallel()
    for _ in range(10):
        parallel.answered("a", 1, late=True, now=0.0)

    assert parallel.limits(4, 1.0) == {}


def test_where_everything_is_late_it_says_nothing() -> None:
    """Ollama answers a format together with thinking in two turns, and accounts for the second: no slot is missing there."""
    parallel = Parallel()
    for second in range(3):
        burst(parallel, 1, 4, float(second))
    assert parallel.limits(4, 3.0) == {"a": 1}
    told = [parallel.ran_alone("a", late=True) for _ in range(8)]
    assert told == [True, True, True, False, False, False, False, False]
    assert parallel.limits(4, 4.0) == {}

    for second in range(9):
        burst(parallel, 1, 4, 10.0 + second)
    assert parallel.limits(4, 20.0) == {}


def test_one_that_is_late_alone_has_met_somebody() -> None:
    """As long as that is not usual; of what is punctual nothing is remembered."""
    parallel = Parallel()
    assert not parallel.ran_alone("a", late=False)
    for _ in range(20):
        assert parallel.ran_alone("a", late=True)
        for _ in range(5):
            assert not parallel.ran_alone("a", late=False)


def test_it_is_tried_again_later_and_each_time_later() -> None:
    """One slot more; if that was wrong, not so soon again."""
    parallel = Parallel()
    for second in range(3):
        burst(parallel, 1, 4, float(second))
    assert parallel.limits(4, RETRIED) == {"a": 1}
    assert parallel.limits(4, RETRIED + 3.0) == {"a": 2}

    again = RETRIED + 3.0
    for second in range(3):
        burst(parallel, 1, 2, again + second)
    assert parallel.limits(4, again + RETRIED + 4.0) == {"a": 1}
    assert parallel.limits(4, again + 2 * RETRIED + 4.0) == {"a": 2}


def test_a_wait_is_what_the_final_chunk_does_not_account_for() -> None:
    """Of an answer that streams, and of one that comes in one piece; without durations nothing is known."""
    assert hidden_wait(3.0, 6.0, (0.0, 1.0, 3.0)) == pytest.approx(2.0)
    assert hidden_wait(6.0, 6.0, (0.0, 1.0, 3.0)) == pytest.approx(2.0)
    assert hidden_wait(1.1, 60.0, (0.0, 1.0, 3.0)) == pytest.approx(0.1)  # a client that reads slowly
    assert hidden_wait(3.0, 6.0, (-1.0, -1.0, -1.0)) == 0.0
    assert hidden_wait(-1.0, 6.0, (0.0, 1.0, 3.0)) == 0.0
    assert (is_late(0.4, 0.1), is_late(0.6, 1.0), is_late(2.0, 10.0)) == (False, True, False)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.floats(0, 1e4)), max_size=200), st.integers(1, 8))
def test_limits_stay_within_their_bounds(answers: list[tuple[int, bool, float]], slots: int) -> None:
    """And fade where nothing more speaks for them."""
    parallel, now = Parallel(), 0.0
    for beside, late, passed in answers:
        now += passed
        parallel.answered("a", beside, late=late, now=now)
        assert all(1 <= limit < slots for limit in parallel.limits(slots, now).values())
    assert parallel.limits(slots, now + 10 * RETRIED_MAX) == {}


@given(st.integers(0, 1000))
def test_what_is_remembered_is_bounded(models: int) -> None:
    """Clients choose what they ask for."""
    parallel = Parallel()
    for model in range(models):
        for _ in range(3):
            parallel.answered(str(model), 2, late=True, now=0.0)

    assert len(parallel.limits(4, 1.0)) <= 256
