"""How long a request would wait that came now."""

from heapq import heapify, heapreplace

from olladist.scheduling.demand import Demand
from olladist.scheduling.known import Known


def expected_wait(known: Known, model: str, now: float, before: int | None = None) -> float | None:
    """Seconds until it would begin, if those `before` it (None: all that wait) and those that run take as long as is usual there; 0 where a slot is free.

    None where nobody has the model in memory, loads it or is about to, or nothing was learned of any of them. Whoever comes after it
    with a higher priority, and whoever leaves, is left out.
    """
    demand = known.demands.get(model)
    if demand is None:
        return None
    slots = _slots(known, demand, model, now)
    if not slots:
        return None
    before = len(demand.line) if before is None else before
    if not before and min(slots)[0] <= 0.0:
        return 0.0
    if not any(known.speeds.knows(number) for number in (*demand.serving, *demand.coming)):
        return None
    heapify(slots)
    for _ in range(before):
        at, usual = slots[0]
        heapreplace(slots, (at + usual, usual))
    return slots[0][0]


def _slots(known: Known, demand: Demand, model: str, now: float) -> list[tuple[float, float]]:
    """Each slot that serves the model or is going to: when it is free, and how long it is taken by a request then."""
    slots: list[tuple[float, float]] = []
    for number in (*demand.serving, *demand.coming):
        machine = known.machines[number]
        if not known.may_work(machine, demand):
            continue
        usual, runner = known.speeds.service_seconds(number, model, demand.size), machine.runners.get(model)
        if runner is None or runner.loading:
            at, _ = known.ready(machine, model, now)
            taken = [at + usual] * (len(runner.running) if runner else 0)
        else:
            at, taken = 0.0, list(known.remaining(machine, runner, now))
        count = runner.slots if runner else machine.slots_of(model)
        free = max(0, count - len(taken))
        # One that runs more than its slots hold has none to give until the surplus is gone.
        slots += [(each, usual) for each in sorted(taken, reverse=True)[:count]] + [(at, usual)] * free
    return slots
