"""Leases that a worker may use again: what one request leaves, the next one of the same kind takes without asking.

A small request asks the control process, is told, and tells it how it went: that costs more than to serve it. While nobody
waits for a slot the answer would be the same each time, so a lease goes from one request to the next for a moment. It counts
as taken meanwhile: slots are as exact as ever. Pure; `now` is of the loop's clock.
"""

from collections.abc import Iterator
from typing import Final

from olladist.gateway.edge.backends import Kind, Lent

# A client that asks again at once does so within a millisecond; a slot that nobody waits for may stand idle for a few.
IDLE_SECONDS: Final = 0.005
# What they were used for is counted in the control process: told together it costs a third of what it does one by one.
TOLD_SECONDS: Final = 0.05
# After so long the control process is asked again in any case: it balances.
LENT_SECONDS: Final = 0.25


class Spare:
    """Those that are idle, the one used last on top."""

    def __init__(self) -> None:
        self._idle: dict[Kind, list[Lent]] = {}
        self._recalled = -1.0

    def __bool__(self) -> bool:
        return bool(self._idle)

    def put(self, lent: Lent, now: float) -> bool:
        """False where it may not be used again."""
        if not (self._recalled < lent.granted and now < lent.granted + LENT_SECONDS and lent.backend.up):
            return False
        lent.since = now
        self._idle.setdefault(lent.kind, []).append(lent)
        return True

    def take(self, kind: Kind) -> Lent | None:
        idle = self._idle.get(kind)
        if idle is None:
            return None
        lent = idle.pop()
        if not idle:
            del self._idle[kind]
        return lent

    def old(self, now: float) -> Iterator[Lent]:
        """Takes out those that have been idle for too long."""
        for kind, idle in tuple(self._idle.items()):
            stay = [lent for lent in idle if now - lent.since < IDLE_SECONDS]
            yield from (lent for lent in idle if now - lent.since >= IDLE_SECONDS)
            if stay:
                self._idle[kind] = stay
            else:
                del self._idle[kind]

    def recall(self, now: float) -> list[Lent]:
        """Takes out all; none that was granted up to now comes back."""
        self._recalled = now
        return self.all()

    def all(self) -> list[Lent]:
        """Takes out all."""
        idle, self._idle = self._idle, {}
        return [lent for each in idle.values() for lent in each]
