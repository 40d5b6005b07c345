"""All that a placement knows: the machines, the models, how fast the ones run the others."""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

from olladist.scheduling.demand import Demand, weights
from olladist.scheduling.fluid import Capacity
from olladist.scheduling.forked import Forked
from olladist.scheduling.machines import Machine, Runner
from olladist.scheduling.speeds import Speeds

# How long the speeds are taken for what they were, in sums over many machines.
REFRESHED = 10.0
# Of the machines that are about to serve a model so many are looked at; the others are taken for the last of these.
SAMPLE = 6
# A load that takes longer than it should is still expected so many seconds from now, and a request for this part of its usual time.
SOON = 0.5
# A machine that others seem to use all the time is taken for so much of one: they will not be there for ever.
OURS_MIN = 0.2
STILL = 0.3


@dataclass(slots=True)
class Known:
    """`begun` is when the first request came, `back` what models have waited lately until their load began."""

    machines: dict[int, Machine] = field(default_factory=dict)
    demands: dict[str, Demand] = field(default_factory=dict)
    speeds: Speeds = field(default_factory=Speeds)
    poorly: set[int] = field(default_factory=set)  # machines that are not well
    begun: float = math.inf
    back: float = 0.0

    def fork(self) -> "Known":
        """The same once more, to try things on; speeds are only read there."""
        return replace(
            self,
            machines=Forked(self.machines, Machine.copied),
            demands=Forked(self.demands, Demand.copied),
            poorly=set(self.poorly),
        )

    def size(self, model: str) -> int:
        """Bytes; 0 for one that nobody holds."""
        demand = self.demands.get(weights(model))
        return demand.size if demand else 0

    def rate(self, machine: Machine, model: str) -> float:
        """Requests per second, with all its slots."""
        slots = machine.slots_of(model)
        return slots / self.crowded_seconds(machine, model, slots - 1)

    def service_seconds(self, machine: Machine, model: str) -> float:
        """How long an ordinary request keeps a slot, beside as many as usual and with what it waits there for others' requests."""
        alone = self.speeds.service_seconds(machine.id, model, self.demands[model].size)
        return alone / max(machine.ours, OURS_MIN)

    def crowded_seconds(self, machine: Machine, model: str, beside: float) -> float:
        """How long a request keeps a slot beside so many others on the machine."""
        return self.service_seconds(machine, model) * self.speeds.crowding(machine.id, model, beside)

    def slot_rate(self, model: str, others: Collection[int]) -> float:
        """Requests per second of one slot, as they are where the model is served, or else would be on one of the others."""
        demand = self.demands[model]
        number = next(iter(demand.serving or others), None)
        machine = self.machines.get(number) if number is not None else None
        if machine is None:
            return 0.0
        rate = demand.rate / len(demand.serving) if demand.serving else self.rate(machine, model)
        return rate / machine.slots_of(model)

    def may_work(self, machine: Machine, demand: Demand) -> bool:
        """One that is not well works only where no other holds the model."""
        return machine.up and (machine.well or not any(self.is_well(number) for number in demand.holders))

    def is_well(self, number: int) -> bool:
        machine = self.machines.get(number)
        return machine is not None and machine.up and machine.well

    def drain_seconds(self, machine: Machine, runner: Runner, now: float) -> float:
        """When the last of what runs is likely to be done."""
        return max(self.remaining(machine, runner, now), default=0.0)

    def remaining(self, machine: Machine, runner: Runner, now: float) -> Iterator[float]:
        """For how many seconds each of what runs is likely to run on."""
        usual = self.speeds.service_seconds(machine.id, runner.model, self.demands[runner.model].size)
        return (max(STILL * usual, usual - (now - since)) for since in runner.running.values())

    def capacities(self, model: str, now: float, without: Collection[int] = ()) -> list[Capacity]:
        """How many requests for the model can be served in a second, from when on; `without` some machines."""
        demand = self.demands[model]
        if now > demand.refreshed + REFRESHED:
            demand.refreshed = now
            for number in demand.serving:
                demand.serving[number] = self.rate(self.machines[number], model)
            demand.rate = math.fsum(demand.serving.values())
        coming = [number for number in islice(demand.coming, SAMPLE) if number not in without]
        later = sorted(self.ready(self.machines[number], model, now) for number in coming)
        missing = sum(demand.serving.get(number, 0.0) for number in without)
        capacities = [Capacity(0.0, max(0.0, demand.rate - missing))]
        for at, rate in later:
            capacities.append(Capacity(at, capacities[-1].rate + rate))
        if later and len(demand.coming) > SAMPLE:  # a fleet that wakes up: the others are taken for as many of the last
            more = len(demand.coming) - SAMPLE
            capacities.append(Capacity(later[-1][0], capacities[-1].rate + more * later[-1][1]))
        return capacities

    def ready(self, machine: Machine, model: str, now: float) -> tuple[float, float]:
        """(seconds until it is loaded there, requests per second from then on)."""
        load = self.speeds.load_seconds(machine.id, self.demands[model].size)
        if model in machine.runners:
            return max(machine.runners[model].since + load - now, SOON), self.rate(machine, model)
        switch = machine.switch
        drain = self.drain_seconds(machine, machine.runners[switch.out], now) if switch is not None else 0.0
        return drain + load, self.rate(machine, model)
