"""Virtual time: the events of a fleet in their order, whatever a placement makes of them."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from olladist.scheduling.decisions import Bind, Decision, Preload
from olladist.sim.virtual.host import Loading, Running, VirtualHost
from olladist.sim.virtual.scenario import Job, Scenario
from olladist.sim.virtual.sharing import Sharing

# The pace at which a placement may look around; the gateway's is the same.
TICK = 1.0


class Placement(Protocol):
    """Who gets what. Each event gives decisions, which are carried out in their order."""

    def arrive(self, job: Job, tried: frozenset[int], now: float) -> Sequence[Decision]: ...

    def started(self, job: Job, host: VirtualHost, load: float, now: float) -> Sequence[Decision]:
        """The first token; `load` is when it got its slot there, and so the latest that its model can have been loaded."""
        ...

    def finished(self, job: Job, host: VirtualHost, running: Running, now: float) -> Sequence[Decision]: ...

    def preloaded(self, host: VirtualHost, number: int, now: float) -> Sequence[Decision]:
        """What it has asked a host to load is in its memory."""
        ...

    def lost(self, job: Job, host: VirtualHost, now: float) -> Sequence[Decision]:
        """It was on a host that has failed, and is over or comes again."""
        ...

    def failed(self, host: VirtualHost, now: float) -> Sequence[Decision]: ...

    def back(self, host: VirtualHost, now: float) -> Sequence[Decision]: ...

    def tick(self, now: float) -> Sequence[Decision]: ...


PlacementT = TypeVar("PlacementT", bound=Placement)


class Outcome(NamedTuple):
    """What became of a job: seconds from its arrival to its first token and to its end; `cut` after its first token."""

    job: Job
    first: float
    total: float
    host: int
    tries: int
    cut: bool = False


@dataclass(slots=True)
class _Try:
    host: VirtualHost
    running: Running | None = None
    began: float = -1.0
    first: float = -1.0


@dataclass(slots=True)
class World(Generic[PlacementT]):
    scenario: Scenario
    placement: PlacementT
    now: float = 0.0
    outcomes: list[Outcome] = field(default_factory=list)
    hosts: list[VirtualHost] = field(default_factory=list)
    _events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = field(default_factory=list)
    _count: int = 0
    _tries: dict[int, _Try] = field(default_factory=dict)
    _tried: dict[int, frozenset[int]] = field(default_factory=dict)
    _epochs: dict[int, int] = field(
        default_factory=dict
    )  # of hosts: a load that was under way when one failed is never done
    _shared: dict[int, Sharing] = field(default_factory=dict)  # by hosts whose requests slow each other down

    def run(self) -> None:
        """To the end of the last job."""
        jobs = self.scenario.jobs
        for job in jobs:
            self._at(job.at, self._arrive, job)
        for failure in self.scenario.failures:
            self._at(failure.at, self._fail, failure.host)
            self._at(failure.at + failure.seconds, self._come_back, failure.host)
        self._at(TICK, self._tick)
        while len(self.outcomes) < len(jobs):
            self.now, _, happen, with_what = heapq.heappop(self._events)
            happen(*with_what)

    def _at(self, when: float, happen: Callable[..., None], *with_what: Any) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, happen, with_what))

    def _decide(self, decisions: Sequence[Decision]) -> None:
        for decision in decisions:
            host = self.hosts[decision.machine]
            if isinstance(decision, Bind):
                job = self.scenario.jobs[decision.ticket]
                self._tried[job.number] = self._tried.get(job.number, frozenset()) | {host.number}
                self._tries[job.number] = _Try(host)
                self._begin(host, host.submit(job, self.now))
            elif isinstance(decision, Preload):
                self._begin(host, host.submit(Job(decision.ticket, self.now, decision.model, 1, 1), self.now))
            else:
                self._begin(host, host.unload(decision.model, self.now))

    def _begin(self, host: VirtualHost, things: Sequence[Loading | Running]) -> None:
        epoch = self._epochs.get(host.number, 0)
        for thing in things:
            if isinstance(thing, Loading):
                self._at(self.now + thing.seconds, self._loaded, host, thing.model, epoch)
            elif thing.number < 0:
                self._at(self.now, self._preloaded, host, thing.number, epoch)
            else:
                attempt = self._tries[thing.number]
                attempt.running, attempt.began = thing, self.now
                if host.host.sharing:
                    self._run_beside(host, thing.number, thing.prompt, reads=True)
                    continue
                self._at(self.now + thing.prompt, self._first, thing.number, attempt)
                self._at(self.now + thing.prompt + thing.output, self._finish, thing.number, attempt)

    def _run_beside(self, host: VirtualHost, number: int, seconds: float, *, reads: bool = False) -> None:
        """As `_begin`, where others make it slower: who comes or goes changes when each gets to its next token."""
        sharing = self._shared.setdefault(host.number, Sharing(host.host.sharing))
        sharing.begin(number, self.scenario.jobs[number].model, seconds, self.now, reads=reads)
        self._expect(sharing)

    def _expect(self, sharing: Sharing) -> None:
        if mark := sharing.next_mark():
            self._at(max(mark.at, self.now), self._reached, sharing, sharing.version, mark.number)

    def _reached(self, sharing: Sharing, version: int, number: int) -> None:
        if version != sharing.version:
            return
        attempt = self._tries[number]
        sharing.leave(number, self.now)
        if attempt.first < 0.0 and attempt.running is not None:
            self._run_beside(attempt.host, number, attempt.running.output)
            self._first(number, attempt)
        else:
            self._expect(sharing)
            self._finish(number, attempt)

    # Events.

    def _arrive(self, job: Job) -> None:
        self._decide(self.placement.arrive(job, self._tried.get(job.number, frozenset()), self.now))

    def _loaded(self, host: VirtualHost, model: str, epoch: int) -> None:
        if epoch == self._epochs.get(host.number, 0):
            self._begin(host, host.loaded_now(model, self.now))

    def _preloaded(self, host: VirtualHost, number: int, epoch: int) -> None:
        if epoch == self._epochs.get(host.number, 0):
            self._begin(host, host.finish(number, self.now))
            self._decide(self.placement.preloaded(host, number, self.now))

    def _first(self, number: int, attempt: _Try) -> None:
        if self._tries.get(number) is not attempt or attempt.running is None:
            return  # its host has failed since
        attempt.first = self.now
        job = self.scenario.jobs[number]
        self._decide(self.placement.started(job, attempt.host, attempt.began, self.now))

    def _finish(self, number: int, attempt: _Try) -> None:
        if self._tries.get(number) is not attempt or attempt.running is None:
            return
        del self._tries[number]
        job = self.scenario.jobs[number]
        self._end(job, attempt, cut=False)
        self._begin(attempt.host, attempt.host.finish(number, self.now))
        took = Running(number, attempt.first - attempt.began, self.now - attempt.first)
        self._decide(self.placement.finished(job, attempt.host, took, self.now))

    def _end(self, job: Job, attempt: _Try, *, cut: bool) -> None:
        tries = len(self._tried[job.number])
        first = attempt.first - job.at
        self.outcomes.append(Outcome(job, first, self.now - job.at, attempt.host.number, tries, cut))

    def _fail(self, number: int) -> None:
        """What had not begun to answer comes again, elsewhere; a stream is cut."""
        host = self.hosts[number]
        self._epochs[number] = self._epochs.get(number, 0) + 1
        if sharing := self._shared.pop(number, None):
            sharing.version += 1
        lost = host.fail()
        self._decide(self.placement.failed(host, self.now))
        for job in lost:
            self._decide(self.placement.lost(job, host, self.now))
            attempt = self._tries.pop(job.number, None)
            if attempt is None:
                continue  # a load for those to come
            if attempt.first >= 0:
                self._end(job, attempt, cut=True)
            else:
                self._arrive(job)

    def _come_back(self, number: int) -> None:
        self.hosts[number].up = True
        self._tried = {job: tried - {number} for job, tried in self._tried.items()}
        self._decide(self.placement.back(self.hosts[number], self.now))

    def _tick(self) -> None:
        self._decide(self.placement.tick(self.now))
        self._at(self.now + TICK, self._tick)


def simulate(scenario: Scenario, make_placement: Callable[[Sequence[VirtualHost]], PlacementT]) -> World[PlacementT]:
    """The world after the last job has ended."""
    models = {model.name: model for model in scenario.models}
    hosts = [VirtualHost(number, host, models) for number, host in enumerate(scenario.hosts)]
    world = World(scenario, make_placement(hosts), hosts=hosts)
    world.run()
    return world
