"""One model as a placement sees it: who has it, who serves it, who waits for it, and how much comes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from olladist.scheduling.free import Free
from olladist.scheduling.line import Line

# Arrivals are counted over about so many seconds.
ARRIVALS = 300.0
# One arrival is no rate yet. What comes is taken for much where room is free, and for little where somebody would have to be kept
# away for its sake.
HOPED, FEARED = 1.0, 60.0
# A prime that is no divisor of any number of hosts: samples go round all of them.
_STRIDE = 1_000_003


def weights(model: str) -> str:
    """What machines hold and list; behind a "|" are the options that make another runner of it."""
    return model.partition("|")[0]


class Held:
    """The machines that have a model on disk, and how large it is; all its runners share this, whatever their options.

    A sample is drawn without a look at all of them.
    """

    __slots__ = ("_numbers", "_places", "size")

    def __init__(self) -> None:
        self.size = 0
        self._numbers: list[int] = []
        self._places: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[int]:
        return iter(self._numbers)

    def __contains__(self, number: object) -> bool:
        return number in self._places

    def add(self, number: int) -> None:
        if number not in self._places:
            self._places[number] = len(self._numbers)
            self._numbers.append(number)

    def discard(self, number: int) -> None:
        place = self._places.pop(number, None)
        if place is not None:  # the last one takes its place
            last = self._numbers.pop()
            if last != number:
                self._numbers[place] = last
                self._places[last] = place

    def drawn(self, turn: int, count: int) -> list[int]:
        """`count` of them, others for another turn."""
        return [self._numbers[(turn + step) * _STRIDE % len(self._numbers)] for step in range(count)]


@dataclass(slots=True)
class Demand:
    """`serving` machines have it in memory and take requests for it, so many per second each; `rate` is their sum.

    `coming` are the machines that load it or are to switch to it. `free` are those of `serving` that may have a free slot.
    """

    holders: Held = field(default_factory=Held)
    line: Line = field(default_factory=Line)
    serving: dict[int, float] = field(default_factory=dict)
    rate: float = 0.0
    refreshed: float = -math.inf
    coming: dict[int, None] = field(default_factory=dict)  # the one that began first is first
    free: Free = field(default_factory=Free)
    stale: bool = False  # who may work for it has changed since `free` was made
    _arrivals: float = 0.0  # decaying count
    _counted: float = -math.inf  # when

    @property
    def size(self) -> int:
        """Bytes; 0 where nobody holds it."""
        return self.holders.size

    @property
    def asked_for(self) -> float:
        """When a request came last; minus infinity: none has yet."""
        return self._counted

    def copied(self) -> "Demand":
        """With the same holders: no request changes who has what on disk."""
        return replace(
            self,
            line=self.line.copied(),
            serving=dict(self.serving),
            coming=dict(self.coming),
            free=self.free.copied(),
        )

    def serve(self, number: int, rate: float) -> None:
        """From now on a machine serves so many requests per second; 0: it does not."""
        self.rate += rate - self.serving.pop(number, 0.0)
        if rate > 0.0:
            self.serving[number] = rate
        elif not self.serving:
            self.rate = 0.0  # nothing is left of what rounding has added up

    def count(self, now: float, requests: int = 1) -> None:
        """Requests have come."""
        self._arrivals = self._still(now) + requests
        self._counted = now

    def per_second(self, now: float, at_least: float, *, since: float) -> float:
        """Arrivals, counted over `at_least` seconds; counts that began at `since` may not have had the time to fill."""
        seconds = ARRIVALS * (1.0 - math.exp(-max(0.0, now - since) / ARRIVALS))
        return self._still(now) / max(seconds, at_least)

    def _still(self, now: float) -> float:
        return self._arrivals * math.exp(-max(0.0, now - self._counted) / ARRIVALS) if self._arrivals else 0.0
