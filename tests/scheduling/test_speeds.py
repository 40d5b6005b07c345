"""What is learned from the final chunks of answers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.scheduling.speeds import LOAD_BYTES_PER_SECOND, Speeds

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

    assert speeds.service_seconds(1, "b", 8 * GB) < speeds.service_seconds(2, "b", 8 * GB)


garbage = st.one_of(st.floats(allow_nan=False), st.just(math.inf), st.just(-1.0))


@given(st.lists(st.tuples(st.integers(-5, 10**9), garbage, st.integers(-5, 10**9), garbage, garbage), max_size=20))
def test_garbage_in_final_chunks_makes_no_garbage_of_plans(chunks: list[tuple[int, float, int, float, float]]) -> None:
    """Clocks that jump, tokens without time, time without tokens: estimates stay above zero and finite."""
    speeds = Speeds()
    for prompt, prompt_seconds, output, output_seconds, load in chunks:
        speeds.answered(1, "a", 8 * GB, (prompt, prompt_seconds), (output, output_seconds))
        speeds.loaded(1, 8 * GB, load)

    assert 0 < speeds.service_seconds(1, "a", 8 * GB) < math.inf
    assert 0 < speeds.load_seconds(1, 8 * GB) < math.inf
