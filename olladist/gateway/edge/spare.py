"""Leases that a worker may use again: what one request leaves, the next one of the same kind takes without asking.

A request asks the control process, is told, and tells it how it went: that costs more than to serve a small one, and is most of what a
stream waits for its first byte. While nobody waits for a slot the answer would be the same each time, so a lease goes from one request
to the next for as long as these follow each other. It counts as taken meanwhile, and whoever finds no slot has all that are idle called
back before he is told so: slots are as exact as ever. Pure; `now` is of the loop's clock.
"""

from collections.abc import Iterator
from typing import Final

from olladist.gateway.edge.backends import Kind, Lent

# Who asks one thing after the other asks again within it.
IDLE_SECONDS: Final = 0.05
# What leases that go on were used for is told as often, all together: each time the control process has to be woken up. But not of so
# many that it takes up a millisecond.
TELL_SECONDS: Final = 0.25
TELL_USES: Final = 200


class Spare:
    """Those that are idle, the one used last on top."""

    def __init__(self) -> None:
        self._idle: dict[Kind, list[Lent]] = {}
        self._recalled = -1.0

    def __bool__(self) -> bool:
        return bool(self._idle)

    def put(self, lent: Lent, now: float) -> bool:
        """False where it may not be used again."""
        if lent.recalled or not (self._recalled < lent.granted and lent.backend.up):
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

    def of(self, model: str) -> list[Lent]:
        """Takes out those for a model: another kind of request for it may want their slots."""
        kinds = [kind for kind in self._idle if kind[0] == model]
        return [lent for kind in kinds for lent in self._idle.pop(kind)]

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
        idle, self._idle = self._idle, {}
        return [lent for each in idle.values() for lent in each]
