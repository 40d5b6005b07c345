"""Which load is worth it: what it gains those who wait for a model, against what it harms those whose model has to make room.

Both are sums of waiting with it and without it (fluid.py):
    gain = waiting for the model, as things are - waiting for it when this machine has loaded it
    harm = waiting for the victim without this machine - waiting for the victim with it
"""

import math
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from olladist.scheduling.demand import FEARED, HOPED, weights
from olladist.scheduling.fluid import Capacity, waiting, with_more
from olladist.scheduling.known import Known
from olladist.scheduling.machines import Machine
from olladist.scheduling.speeds import LOAD_SECONDS_MIN

# The plans that are compared reach so far ahead; a load takes 3 to 25 s, so its cost and its use both lie within.
HORIZON = 60.0
# A load is only begun if it gains so many times what it harms: the estimates are rough, and a wrong load costs twice.
MARGIN = 4.0
# Who has waited so long for a model that nobody serves gets a machine even where others wait too: a machine that did nothing but
# change models would spend one part in so many of its time on loads.
AGE_LOADS = 20.0
AGE_MAX = 120.0
# What harm counts for then: just so much that the one is chosen to whom it does least.
STARVED = 1e-3
# A load is worth this many request-seconds for each of its seconds, so that one that gains next to nothing is not begun.
LOAD_PRICE = 0.02
# A further machine for requests that crowd each other takes memory that somebody may want, so each second of its load must gain this many
# request-seconds within the horizon. With one load of six seconds: where one request runs on one machine in the mean, four on six.
SPREAD_PRICE = 1.0
# Nobody's model goes for that but one that was asked for so long ago that Ollama would have unloaded it by itself (its OLLAMA_KEEP_ALIVE): who comes back
# to a model every minute would otherwise find it gone each time.
FORGOTTEN = 300.0


class Plan(NamedTuple):
    """`victim` makes room for it, in `drain` seconds, and then it takes `load` seconds.

    `net` are request-seconds of waiting saved: `gain`, less what `harm` and the load itself count for.
    """

    net: float
    machine: int
    victim: str | None
    gain: float = 0.0
    harm: float = 0.0
    drain: float = 0.0
    load: float = 0.0


def best(known: Known, name: str, numbers: Collection[int], now: float) -> Plan | None:
    """The best load of the model on one of these machines, if any is worth it."""
    found: Plan | None = None
    for plan in plans(known, name, numbers, now):
        if plan.net > 0 and (found is None or plan.net > found.net):
            found = plan
    return found


def plans(known: Known, name: str, numbers: Collection[int], now: float) -> Iterator[Plan]:
    """Each load of the model that could be begun on one of these machines, for those who wait for it; worth it or not."""
    demand = known.demands[name]
    oldest = demand.line.oldest()
    if oldest is None:
        return
    age = now - oldest.arrived
    arriving = demand.per_second(now, HOPED, since=known.begun)
    horizon = HORIZON + age
    # Machines on which it has failed, and such as give way to others, are none for it.
    useless = oldest.tried.union(n for n in known.poorly if not known.may_work(known.machines[n], demand))
    capacities = known.capacities(name, now, useless)
    served = bool(demand.serving.keys() - useless or demand.coming.keys() - useless)
    slot = known.slot_rate(name, numbers)
    as_it_is = waiting(len(demand.line), arriving, capacities, horizon, slot)
    for number in numbers:
        machine = known.machines.get(number)
        if machine is None or not (_may_load(known, machine, name) and demand.line.may_go(number)):
            continue
        seconds = known.speeds.load_seconds(number, demand.size)
        rate = known.rate(machine, name)
        starved = age > min(AGE_MAX, AGE_LOADS * seconds) and not served
        for victim, drain, harm in _victims(known, machine, name, oldest.arrived if starved else math.inf, now):
            more = with_more(capacities, drain + seconds, rate)
            gain = as_it_is - waiting(len(demand.line), arriving, more, horizon, slot)
            net = gain - (STARVED if starved else MARGIN) * harm - LOAD_PRICE * seconds
            yield Plan(net, number, victim, gain, harm, drain, seconds)


def may_spread(known: Known, name: str, now: float) -> bool:
    """Whether requests for the model crowd each other so much that another machine for them might be worth the shortest load."""
    return _crowd(known, name, now).gain > SPREAD_PRICE * LOAD_SECONDS_MIN


def spread(known: Known, name: str, numbers: Collection[int], now: float) -> Plan | None:
    """The best load for a model that nobody waits for, on a machine with room or a forgotten victim, where answers would take no longer than they do."""
    demand, crowd = known.demands[name], _crowd(known, name, now)
    found: Plan | None = None
    for number in numbers:
        machine = known.machines.get(number)
        if machine is None or not _may_load(known, machine, name):
            continue
        if known.crowded_seconds(machine, name, machine.running) > crowd.seconds:
            continue
        seconds = known.speeds.load_seconds(number, demand.size)
        net = crowd.gain - SPREAD_PRICE * seconds
        if net <= 0.0 or (found is not None and net <= found.net):
            continue
        for victim, drain, harm in _victims(known, machine, name, math.inf, now):
            if not drain and (victim is None or now - known.demands[victim].asked_for > FORGOTTEN):
                found = Plan(net, number, victim, crowd.gain, harm, 0.0, seconds)
                break
    return found


class _Crowding(NamedTuple):
    """`seconds` that a request takes beside the others of its machine, and the request-seconds that one machine more would save within the horizon."""

    seconds: float
    gain: float


def _crowd(known: Known, name: str, now: float) -> _Crowding:
    """By what has come, and what that makes run at once on each machine in the mean (Little's law); the first stands for all."""
    demand = known.demands[name]
    machine = known.machines[next(iter(demand.serving))]
    machines = len(demand.serving) + len(demand.coming)
    arriving = demand.per_second(now, FEARED, since=known.begun)
    beside = arriving * known.service_seconds(machine, name) / machines
    seconds = known.crowded_seconds(machine, name, beside)
    fewer = known.crowded_seconds(machine, name, beside * machines / (machines + 1))
    return _Crowding(seconds, HORIZON * arriving * (seconds - fewer))


def _may_load(known: Known, machine: Machine, name: str) -> bool:
    free = machine.switch is None and name not in machine.runners and not machine.loading
    return free and known.may_work(machine, known.demands[name])


def _victims(
    known: Known, machine: Machine, wanted: str, since: float, now: float
) -> Iterable[tuple[str | None, float, float]]:
    """(who has to go, seconds until it is idle, harm): nobody where there is room, nor those whose requests wait since before `since`."""
    # The same weights with other options are in the way: Ollama reloads them in their place (server/sched.go needsReload).
    same = {name: runner for name, runner in machine.runners.items() if weights(name) == weights(wanted)}
    if not same and machine.has_room(wanted, known.size):
        yield None, 0.0, 0.0
        return
    # One that leaves room enough, if there is one: Ollama would unload others besides, and nobody has chosen those.
    enough = {name: runner for name, runner in machine.runners.items() if machine.has_room(wanted, known.size, name)}
    for name, runner in (same or enough or machine.runners).items():
        oldest = known.demands[name].line.oldest()
        if oldest is not None and oldest.arrived <= since:
            continue
        yield name, known.drain_seconds(machine, runner, now), _harm(known, machine, name, now)


def _harm(known: Known, machine: Machine, name: str, now: float) -> float:
    """What the requests for `name` wait more without this machine."""
    demand = known.demands[name]
    arriving = demand.per_second(now, FEARED, since=known.begun)
    capacities = known.capacities(name, now)
    rate = demand.serving.get(machine.id, 0.0)
    less = [Capacity(step.at, max(0.0, step.rate - rate)) for step in capacities]
    if less[-1].rate <= 0.0:
        less = with_more(less, known.back + known.speeds.load_seconds(machine.id, demand.size), rate)
    queued, slot = len(demand.line), known.slot_rate(name, (machine.id,))
    return waiting(queued, arriving, less, HORIZON, slot) - waiting(queued, arriving, capacities, HORIZON, slot)
