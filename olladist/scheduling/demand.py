"""One model as a placement sees it: who has it, who serves it, who waits for it, and how much comes."""

import math
from dataclasses import dataclass, field

from olladist.scheduling.line import Line

# Arrivals are counted over about so many seconds.
ARRIVALS = 300.0
# One arrival is no rate yet. What comes is taken for much where room is free, and for little where somebody would have to be kept
# away for its sake.
HOPED, FEARED = 1.0, 60.0


def weights(model: str) -> str:
    """What machines hold and list; behind a "|" are the options that make another runner of it."""
    return model.partition("|")[0]


@dataclass(slots=True)
class Demand:
    """`serving` machines have it in memory and take requests for it, so many per second each; `rate` is their sum.

    `coming` are the machines that load it or are to switch to it. `free` is a heap of (seconds of service, machine).
    """

    size: int = 0
    line: Line = field(default_factory=Line)
    holders: dict[int, None] = field(default_factory=dict)
    sample: tuple[int, ...] = ()  # the holders, to be drawn from; empty when it has to be made anew
    serving: dict[int, float] = field(default_factory=dict)
    rate: float = 0.0
    refreshed: float = -math.inf
    coming: dict[int, None] = field(default_factory=dict)  # the one that began first is first
    free: list[tuple[float, int]] = field(default_factory=list)
    listed: set[int] = field(default_factory=set)  # the machines in `free`
    stale: bool = False  # who may work for it has changed since `free` was made
    _arrivals: float = 0.0  # decaying count
    _counted: float = -math.inf  # when

    def serve(self, number: int, rate: float) -> None:
        """From now on a machine serves so many requests per second; 0: it does not."""
        self.rate += rate - self.serving.pop(number, 0.0)
        if rate > 0.0:
            self.serving[number] = rate
        elif not self.serving:
            self.rate = 0.0  # nothing is left of what rounding has added up

    def count(self, now: float) -> None:
        """A request has come."""
        self._arrivals = self._still(now) + 1.0
        self._counted = now

    def per_second(self, now: float, at_least: float, *, since: float) -> float:
        """Arrivals, counted over `at_least` seconds; counts that began at `since` may not have had the time to fill."""
        seconds = ARRIVALS * (1.0 - math.exp(-max(0.0, now - since) / ARRIVALS))
        return self._still(now) / max(seconds, at_least)

    def _still(self, now: float) -> float:
        return self._arrivals * math.exp(-max(0.0, now - self._counted) / ARRIVALS) if self._arrivals else 0.0
