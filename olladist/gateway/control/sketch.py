"""Quantiles of times in bounded memory: counts in buckets whose bounds grow by a tenth. Pure.

What is read out is at most 5 % off, and sketches of several periods add up to that of all of them.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping

# From a millisecond, below which nobody can tell, to an hour: 159 buckets at most.
_SMALLEST = 0.001
_GROWTH = 1.1
_BOUNDS = tuple(_SMALLEST * math.pow(_GROWTH, number) for number in range(159))


def bucket(seconds: float) -> int:
    """The number of the bucket that a time falls in."""
    return bisect_left(_BOUNDS, seconds)


def quantile(counts: Mapping[int, int], q: float) -> float | None:
    """The time that a part `q` of all times do not exceed; None where there is none."""
    rank, total = 0, sum(counts.values())
    for number in sorted(counts):
        rank += counts[number]
        if rank >= q * total > 0:
            # The middle of its bucket, as far from either end in proportion.
            return _SMALLEST * math.pow(_GROWTH, max(number - 0.5, 0))
    return None
