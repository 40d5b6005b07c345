"""How long a queue keeps its requests waiting, in sum, if its servers come and go as planned: a fluid of requests.

Arrivals and service are taken as steady streams: exact enough to compare two plans for the next minute, and a few
multiplications instead of a simulation.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Capacity(NamedTuple):
    """From `at` seconds on, `rate` requests per second can be served."""

    at: float
    rate: float


def waiting(queued: float, arriving: float, capacities: Sequence[Capacity], horizon: float) -> float:
    """Request-seconds spent waiting in the next `horizon` seconds.

    `queued` requests wait now, `arriving` come per second. `capacities` are in the order of their times, the first at 0.
    """
    total = 0.0
    last = len(capacities) - 1
    for index, (begin, rate) in enumerate(capacities):
        end = horizon if index == last else min(horizon, capacities[index + 1].at)
        seconds = end - begin
        if seconds <= 0.0:
            continue
        growth = arriving - rate
        after = queued + growth * seconds
        if after >= 0.0:
            total += (queued + after) / 2.0 * seconds
            queued = after
        else:  # it empties after queued / -growth seconds
            total += queued * queued / (-2.0 * growth)
            queued = 0.0
    return total


def with_more(capacities: Sequence[Capacity], at: float, rate: float) -> list[Capacity]:
    """`rate` more (or less) from `at` on."""
    before = [step for step in capacities if step.at <= at]
    after = [Capacity(step.at, step.rate + rate) for step in capacities if step.at > at]
    return [*before, Capacity(at, before[-1].rate + rate), *after]
