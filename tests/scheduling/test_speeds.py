"""What is learned from the final chunks of answers."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.scheduling.speeds import CROWDING, LOAD_BYTES_PER_SECOND, Speeds

GB = 10**9


def test_sizes_stand_in_until_something_is_known() -> None:
    """Twice the size loads twice as long, and answers half as fast."""
    speeds = Speeds()

    assert speeds.load_seconds(1, 6 * GB) == 6 * GB / LOAD_BYTES_PER_SECOND
    assert speeds.service_seconds(1, "b", 16 * GB) == pytest.approx(2 * speeds.service_seconds(1, "a", 8 * GB))


def test_rates_are_those_of_the_answers() -> None:
    """100 tokens in two seconds in, 50 in five out."""
    speeds = Speeds()
    for _ in range(20):
        speeds.answered(1, "a", 8 * GB, (100, 2.0), (50, 5.0))
        speeds.loaded(1, 8 * GB, 4.0)

    assert speeds.prompt_seconds(1, "a", 8 * GB, 200) == pytest.approx(4.0)
    assert speeds.service_seconds(1, "a", 8 * GB) == pytest.approx(7.0)
    assert speeds.load_seconds(1, 4 * GB) == pytest.approx(2.0)


def test_a_fast_host_is_taken_for_fast_with_other_models_too() -> None:
    """What is known of one model is the best guess for the next."""
    speeds = Speeds()
    speeds.answered(1, "a", 8 * GB, (0, 0.0), (400, 1.0))
    speeds.answered(2, "a", 8 * GB, (0, 0.0), (400, 10.0))

    assert speeds.output_rate(1, "b", 8 * GB) == pytest.approx(10 * speeds.output_rate(2, "b", 8 * GB))


def test_a_host_of_which_nothing_is_known_is_taken_for_one_like_the_others() -> None:
    """With the model that they were measured at, and with any; what was only guessed from sizes counts for nothing then."""
    speeds = Speeds()
    assert speeds.answered(1, "a", 8 * GB, (100, 0.001), (400, 0.1)), "the first of the model"
    assert not speeds.answered(1, "a", 8 * GB, (100, 0.001), (400, 0.1))

    assert speeds.output_rate(2, "a", 8 * GB) == pytest.approx(4000.0)
    assert speeds.output_rate(2, "b", 16 * GB) == pytest.approx(2000.0)
    assert speeds.prompt_seconds(2, "a", 8 * GB, 100) == pytest.approx(0.001)
    assert not speeds.has_measured(2, "a")
    assert not speeds.knows(2)


@pytest.mark.parametrize("degree", [0.0, 0.1, 0.5, 1.0])
def test_how_much_requests_slow_each_other_down_is_learned(degree: float) -> None:
    """From answers beside none to seven others, whose speed also has something of chance."""
    speeds, dice = Speeds(), random.Random(1)  # noqa: S311  chance, to be repeated
    for _ in range(400):
        beside = dice.randrange(8)
        seconds = (1.0 + degree * beside) * dice.uniform(0.9, 1.1)
        speeds.answered(1, "a", 8 * GB, (0, 0.0), (100, seconds), beside)

    alone, crowded = (speeds.crowding(1, "a", beside) for beside in (0, 7))
    assert crowded / alone == pytest.approx(1.0 + 7 * degree, rel=0.25)


def test_what_is_not_known_of_a_crowd_is_taken_for_that_of_a_gpu() -> None:
    """One more makes it slower by a fifth, on a host that was only ever measured alone too."""
    speeds = Speeds()
    assert speeds.crowding(1, "a", 3) == pytest.approx(1.0 + 3 * CROWDING)
    for _ in range(100):
        speeds.answered(1, "a", 8 * GB, (0, 0.0), (100, 1.0))
    assert speeds.crowding(1, "a", 3) == pytest.approx(1.0 + 3 * CROWDING)


garbage = st.one_of(st.floats(allow_nan=False), st.just(math.inf), st.just(-1.0))


@given(st.lists(st.tuples(st.integers(-5, 10**9), garbage, st.integers(-5, 10**9), garbage, garbage), max_size=20))
def test_garbage_in_final_chunks_makes_no_garbage_of_plans(chunks: list[tuple[int, float, int, float, float]]) -> None:
    """Clocks that jump, tokens without time, time without tokens: estimates stay above zero and finite."""
    speeds = Speeds()
    for prompt, prompt_seconds, output, output_seconds, load in chunks:
        speeds.answered(1, "a", 8 * GB, (prompt, prompt_seconds), (output, output_seconds), max(0, prompt))
        speeds.loaded(1, 8 * GB, load)

    assert 0 < speeds.crowding(1, "a", 3) < math.inf
    assert 0 < speeds.service_seconds(2, "a", 8 * GB) < math.inf
    assert 0 < speeds.service_seconds(1, "a", 8 * GB) < math.inf
    assert 0 < speeds.load_seconds(1, 8 * GB) < math.inf
