"""How long a queue keeps its requests waiting, in sum, if its servers come and go as planned: a fluid of requests, and some chance.

Arrivals and service are taken as steady streams: exact enough to compare two plans for the next minute, and a few
multiplications instead of a simulation. But requests do not come evenly: queues are there also where there is capacity enough,
and the more so the fewer slots there are. Sakasegawa (1977) gives their mean length for c slots that are busy for a part r of
the time: r ** sqrt(2 (c + 1)) / (1 - r), times a half of the sum of the squared variations of arrivals and service.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

# That half: requests come independently (1), and answers have long tails (1.25, public traces).
VARIATION = 1.1
# What this counts for, found by simulation: what might wait weighs less than what does.
CHANCE = 0.3
# It takes time until a queue is so long: in a given time no longer than this times the square root of twice the arrivals.
GROWTH = 0.5


class Capacity(NamedTuple):
    """From `at` seconds on, `rate` requests per second can be served."""

    at: float
    rate: float


def waiting(queued: float, arriving: float, capacities: Sequence[Capacity], horizon: float, slot: float = 0.0) -> float:
    """Request-seconds spent waiting in the next `horizon` seconds.

    `queued` requests wait now, `arriving` come per second. `capacities` are in the order of their times, the first at 0. `slot` is what one slot
    serves in a second; 0 leaves chance out.
    """
    total = 0.0
    last = len(capacities) - 1
    for index, (begin, rate) in enumerate(capacities):
        end = horizon if index == last else min(horizon, capacities[index + 1].at)
        seconds = end - begin
        if seconds <= 0.0:
            continue
        total += CHANCE * by_chance(arriving, rate, slot, horizon) * seconds
        growth = arriving - rate
        after = queued + growth * seconds
        if after >= 0.0:
            total += (queued + after) / 2.0 * seconds
            queued = after
        else:  # it empties after queued / -growth seconds
            total += queued * queued / (-2.0 * growth)
            queued = 0.0
    return total


def by_chance(arriving: float, rate: float, slot: float, horizon: float) -> float:
    """How many wait in the mean because requests do not come evenly; no more than come to that within the horizon."""
    if arriving <= 0.0 or slot <= 0.0:
        return 0.0
    most = GROWTH * math.sqrt(2.0 * arriving * horizon)
    busy = arriving / rate if rate > 0.0 else 1.0
    if busy >= 1.0:
        return most
    return min(most, VARIATION * math.pow(busy, math.sqrt(2.0 * (rate / slot + 1.0))) / (1.0 - busy))


def with_more(capacities: Sequence[Capacity], at: float, rate: float) -> list[Capacity]:
    """`rate` more (or less) from `at` on."""
    before = [step for step in capacities if step.at <= at]
    after = [Capacity(step.at, step.rate + rate) for step in capacities if step.at > at]
    return [*before, Capacity(at, before[-1].rate + rate), *after]
