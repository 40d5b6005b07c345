"""The gateway's own placement, `scheduling.adaptive`, in virtual time."""

import time
from collections.abc import Mapping, Sequence

from olladist.scheduling.adaptive import Adaptive
from olladist.scheduling.decisions import Decision
from olladist.scheduling.line import Waiting
from olladist.scheduling.machines import Machine
from olladist.sim.virtual.host import Running, VirtualHost
from olladist.sim.virtual.scenario import Job, Scenario

# What a request is thought to answer with before anything is known.
_OUTPUT = 200


class Late:
    """Tells it what happens, with what a real gateway would know at that moment: nothing of an answer's length before its end."""

    def __init__(
        self, hosts: Sequence[VirtualHost], scenario: Scenario, weights: Mapping[str, float] | None = None
    ) -> None:
        self.adaptive = Adaptive(weights)
        self.deciding = 0.0  # seconds of this process
        self.decided = 0
        self._sizes = {model.name: int(model.size) for model in scenario.models}
        self._bound: dict[int, float] = {}
        for host in hosts:
            self.adaptive.add(Machine(host.number, slots=host.host.slots, models_max=host.host.models_max))
            self.adaptive.hold(host.number, self._sizes)

    def arrive(self, job: Job, tried: frozenset[int], now: float) -> Sequence[Decision]:
        tokens = float(job.prompt + _OUTPUT)
        if len(tried) == len(
            self.adaptive.machines
        ):  # where nobody is left the gateway refuses; here it goes round again
            tried = frozenset()
        began = time.perf_counter()
        decisions = self.adaptive.arrive(
            Waiting(job.number, job.model, now, key=job.key, tokens=tokens, near=job.conversation, tried=tried), now
        )
        self.deciding += time.perf_counter() - began
        self.decided += 1
        return decisions

    def started(self, job: Job, host: VirtualHost, load: float, now: float) -> Sequence[Decision]:
        loading = self.adaptive.machines[host.number].runners[job.model]
        if loading.loading:
            self.adaptive.speeds.loaded(host.number, self._sizes[job.model], load - loading.since)
        return self.adaptive.started(job.number, now)

    def finished(self, job: Job, host: VirtualHost, running: Running, now: float) -> Sequence[Decision]:
        prompt, output = (job.prompt, running.prompt), (job.output, running.output)
        self.adaptive.answered(host.number, job.model, prompt, output)
        began = time.perf_counter()
        decisions = self.adaptive.finished(job.number, now)
        self.deciding += time.perf_counter() - began
        return decisions

    def preloaded(self, host: VirtualHost, number: int, now: float) -> Sequence[Decision]:
        return [*self.adaptive.started(number, now), *self.adaptive.finished(number, now)]

    def lost(self, job: Job, host: VirtualHost, now: float) -> Sequence[Decision]:
        return self.adaptive.finished(job.number, now)

    def failed(self, host: VirtualHost, now: float) -> Sequence[Decision]:
        return self.adaptive.set_up(host.number, up=False, now=now)

    def back(self, host: VirtualHost, now: float) -> Sequence[Decision]:
        return self.adaptive.set_up(host.number, up=True, now=now)

    def tick(self, now: float) -> Sequence[Decision]:
        return self.adaptive.tick(now)
