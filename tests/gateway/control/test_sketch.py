import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.control.sketch import bucket, quantile

TIMES = st.lists(st.floats(0.001, 3600), min_size=1, max_size=200)


def test_nothing_has_no_quantile() -> None:
    """Without a single time there is no answer, and none is made up."""
    assert quantile({}, 0.5) is None


@given(TIMES, st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_quantiles_are_five_per_cent_off_at_most(times: list[float], q: float) -> None:
    """Against the exact one out of the sorted times."""
    exact = sorted(times)[max(math.ceil(q * len(times)) - 1, 0)]
    read = quantile(Counter(map(bucket, times)), q)

    assert read is not None
    assert abs(read - exact) <= 0.05 * exact + 1e-9


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_buckets_are_in_order_and_few(one: float, other: float) -> None:
    """A longer time is never in a lower bucket, and there are at most 160 of them."""
    low, high = sorted((one, other))

    assert 0 <= bucket(low) <= bucket(high) <= 159
