"""Machines with a free slot."""

from hypothesis import given
from hypothesis import strategies as st

from olladist.scheduling.free import Free

changes = st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.integers(0, 9).map(float))), max_size=400)


@given(changes)
def test_the_first_is_the_least_of_what_was_put_last(changes: list[tuple[int, float | None]]) -> None:
    """Among equals the one of the lowest number; a copy knows nothing of what follows; what does not count any more is thrown away in the end."""
    free, seconds = Free(), dict[int, float]()
    for number, value in changes:
        before, first = free.copied(), free.first()
        if value is None:
            free.discard(number)
            seconds.pop(number, None)
        else:
            free.put(number, value)
            seconds[number] = value
        assert free.first() == min(((value, number) for number, value in seconds.items()), default=None)
        assert before.first() == first
        assert len(free._heap) <= 2 * len(seconds) + 64
