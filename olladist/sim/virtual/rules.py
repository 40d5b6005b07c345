"""Rules that send each request somewhere as it comes: our named strategies, and those of peers, read from their sources.

What they look at is exact here, as if they heard of each change at once; real ones read /api/ps every few seconds.
"""

import random
from collections.abc import Callable, Mapping, Sequence

from olladist.inventory.model import Strategy
from olladist.scheduling.backend import Candidate
from olladist.scheduling.decisions import Bind, Decision
from olladist.scheduling.strategies import choose
from olladist.sim.virtual.host import Running, VirtualHost
from olladist.sim.virtual.scenario import Job

Rule = Callable[[Sequence[VirtualHost], Job], VirtualHost]


class AtOnce:
    """Places by a rule when a request comes, and never looks at it again."""

    def __init__(self, hosts: Sequence[VirtualHost], rule: Rule) -> None:
        self._hosts = hosts
        self._rule = rule

    def arrive(self, job: Job, tried: frozenset[int], now: float) -> Sequence[Decision]:
        up = [host for host in self._hosts if host.up]
        untried = [host for host in up if host.number not in tried]
        return [Bind(job.number, self._rule(untried or up or self._hosts, job).number)]

    def started(self, job: Job, host: VirtualHost, load: float, now: float) -> Sequence[Decision]:
        return ()

    def finished(self, job: Job, host: VirtualHost, running: Running, now: float) -> Sequence[Decision]:
        return ()

    def preloaded(self, host: VirtualHost, number: int, now: float) -> Sequence[Decision]:
        return ()

    def lost(self, job: Job, host: VirtualHost, now: float) -> Sequence[Decision]:
        return ()

    def failed(self, host: VirtualHost, now: float) -> Sequence[Decision]:
        return ()

    def back(self, host: VirtualHost, now: float) -> Sequence[Decision]:
        return ()

    def tick(self, now: float) -> Sequence[Decision]:
        return ()


def rules(seed: int) -> Mapping[str, Rule]:
    """All of them, each with its own dice and its own turns."""
    named = {strategy.value: _named(strategy) for strategy in Strategy if strategy.value != "adaptive"}
    return {
        **named,
        "least-connections": _least_connections(random.Random(seed)),  # noqa: S311
        "loaded-free": _loaded_free(random.Random(seed)),  # noqa: S311
        "random": _random(random.Random(seed)),  # noqa: S311
        "power-of-two": _power_of_two(random.Random(seed)),  # noqa: S311
    }


def _named(strategy: Strategy) -> Rule:
    """One of ours, by the very function that the gateway uses."""
    turns: dict[str, int] = {}

    def rule(hosts: Sequence[VirtualHost], job: Job) -> VirtualHost:
        turn = turns[job.model] = turns.get(job.model, -1) + 1
        candidates = [
            Candidate(h.number, h.host.slots, h.total, h.by_model.get(job.model, 0), job.model in h.loaded)
            for h in hosts
        ]
        chosen = choose(strategy, candidates, turn, job.conversation)
        return next(host for host in hosts if host.number == chosen)

    return rule


def _least_connections(dice: random.Random) -> Rule:
    """Olla's least-connections: the fewest requests, whatever is in memory."""
    return lambda hosts, _: min(hosts, key=lambda host: (host.total, dice.random()))


def _loaded_free(dice: random.Random) -> Rule:
    """NOMYO's: loaded and with a free slot, else with room for one more model, else the least busy."""

    def rule(hosts: Sequence[VirtualHost], job: Job) -> VirtualHost:
        loaded = [h for h in hosts if job.model in h.loaded and h.by_model.get(job.model, 0) < h.host.slots]
        room = [h for h in hosts if len(h.loaded) < h.host.models_max and h.total < h.host.slots * h.host.models_max]
        return min(loaded or room or hosts, key=lambda host: (host.total, dice.random()))

    return rule


def _random(dice: random.Random) -> Rule:
    return lambda hosts, _: dice.choice(hosts)


def _power_of_two(dice: random.Random) -> Rule:
    """The less busy of two that are drawn."""
    return lambda hosts, _: min(dice.sample(hosts, min(2, len(hosts))), key=lambda host: host.total)
