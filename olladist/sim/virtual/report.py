"""What a simulation shows: percentiles of waiting, reloads, use of slots, fairness; and the least that is possible at all."""

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from olladist.sim.virtual.scenario import Scenario, seconds_of
from olladist.sim.virtual.world import Outcome, World


@dataclass(frozen=True, slots=True)
class Spread:
    """Seconds."""

    mean: float
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Figures:
    """`first` is the time to the first token. `fairness` is Jain's index over the keys' mean waits, 1 where all wait the same."""

    first: Spread
    total: Spread
    loads: int
    slot_use: float
    fairness: float
    cut: int


def figures(world: World[Any]) -> Figures:
    whole = [outcome for outcome in world.outcomes if not outcome.cut]
    slots = sum(host.host.slots * host.host.models_max for host in world.hosts)
    return Figures(
        first=spread(outcome.first for outcome in whole),
        total=spread(outcome.total for outcome in whole),
        loads=sum(host.loads for host in world.hosts),
        slot_use=sum(host.busy for host in world.hosts) / (slots * world.now),
        fairness=jain(_mean_waits(whole)),
        cut=len(world.outcomes) - len(whole),
    )


def spread(values: Iterable[float]) -> Spread:
    """By nearest rank; zeros for no values."""
    ordered = sorted(values)
    if not ordered:
        return Spread(0.0, 0.0, 0.0, 0.0)
    p50, p95, p99 = (ordered[min(len(ordered) - 1, int(part * len(ordered)))] for part in (0.5, 0.95, 0.99))
    return Spread(sum(ordered) / len(ordered), p50, p95, p99)


def jain(shares: Sequence[float]) -> float:
    """(sum)² / (n × sum of squares): 1 for equal shares, 1/n where one has it all (Jain, Chiu and Hawe, 1984)."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0


def _mean_waits(outcomes: Sequence[Outcome]) -> list[float]:
    by_key: dict[str, list[float]] = {}
    for outcome in outcomes:
        by_key.setdefault(outcome.job.key, []).append(outcome.first)
    return [sum(waits) / len(waits) for waits in by_key.values()]


def lower_bound(scenario: Scenario) -> Spread:
    """Times to the first token if every model were in every memory and slots were one pool; hosts never fail in it.

    Each slot of a host serves any model, the fastest free one first, nothing is ever loaded: no placement can do better but by
    serving short requests first.
    """
    models = {model.name: model for model in scenario.models}
    free = [
        (-host.speed, number, slot)
        for number, host in enumerate(scenario.hosts)
        for slot in range(host.slots * min(host.models_max, len(models)))
    ]
    heapq.heapify(free)
    busy: list[tuple[float, tuple[float, int, int]]] = []
    queue = deque(scenario.jobs)
    waits = []
    now = 0.0
    while queue:
        job = queue.popleft()
        now = max(now, job.at)
        while busy and (busy[0][0] <= now or not free):
            end, slot = heapq.heappop(busy)
            now = max(now, end)
            heapq.heappush(free, slot)
        slot = heapq.heappop(free)
        prompt, output = seconds_of(
            scenario.hosts[slot[1]], models[job.model], job.prompt - job.prefix or 1, job.output
        )
        waits.append(now + prompt - job.at)
        heapq.heappush(busy, (now + prompt + output, slot))
    return spread(waits)
