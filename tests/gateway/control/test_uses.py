"""Requests by column: what many together are is what each of them is."""

from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.control.uses import Uses, believed, columns
from olladist.gateway.lease import NO_USAGE, Usage, Use

COUNT = st.integers(-1, 2**40)
SECONDS = st.just(-1.0) | st.floats(0, 100)
USAGES = st.builds(Usage, COUNT, COUNT, SECONDS, SECONDS, SECONDS)
USES = st.builds(Use, SECONDS, SECONDS, st.just(0), USAGES)


@given(st.lists(USES, max_size=20), st.lists(USES, max_size=20))
def test_columns_of_two_are_those_of_each(some: list[Use], others: list[Use]) -> None:
    """Each field adds up; that sums of floats do so is not asked for, for none is made here."""
    one, other, both = columns(some), columns(others), columns([*some, *others])

    assert both == Uses(*(a + b for a, b in zip(one, other, strict=True)))  # type: ignore[operator]  # numbers or lists


@given(USES)
def test_what_is_not_said_is_left_out(use: Use) -> None:
    """And what cannot be true: of the times of an answer each, or its counts too."""
    said = believed(use.usage, use.duration)
    of_one = columns([use])

    assert of_one.requests == 1
    assert of_one.first_bytes == [use.first_byte] * (use.first_byte >= 0)
    assert of_one.durations == [use.duration] * (use.duration >= 0)
    assert of_one.loads == [said.load] * (said.load >= 0)
    assert (of_one.prompt_tokens, of_one.output_tokens) == (max(said.prompt_tokens, 0), max(said.output_tokens, 0))
    assert of_one.outputs == [(said.output_tokens, said.output)] * (said.output_tokens > 0 and said.output > 0)


def test_counts_are_believed_where_times_are_not() -> None:
    """A clock that has jumped has miscounted nothing; who says more tokens than any context holds says nothing."""
    assert believed(Usage(5, 7, 0.0, 900.0, 1.0), 3.0) == Usage(5, 7)
    assert believed(Usage(5, 9 * 10**14, 0.0, 0.1, 1.0), 3.0) is NO_USAGE
