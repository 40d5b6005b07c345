"""Leases that workers may use again, and who waits until all that lie idle have been called back.

An idle lease counts as taken, so a request that finds no slot may find one in a moment: it is placed, and a load or its place in the queue
decided, once every worker that has such leases has given back what it does not use. No sockets, no clock: `now` is in seconds.
"""

from typing import Final

from olladist.gateway.lease import Ask

# A worker answers within a turn of its loop. One that has not after so long is stuck, and what it holds counts as taken.
PATIENCE_SECONDS: Final = 1.0


class Reserve:
    """By worker, as the dispatcher numbers them. What is lent when a call begins is so no more: it ends with the request that it serves."""

    def __init__(self) -> None:
        self._lent: dict[int, set[int]] = {}
        self._called: set[int] = set()  # workers that have not answered
        self._since = 0.0
        self._held: dict[tuple[int, int], Ask] = {}

    def __len__(self) -> int:
        """Requests that wait for the answers."""
        return len(self._held)

    @property
    def is_called(self) -> bool:
        """Whether some answer is still to come."""
        return bool(self._called)

    def lend(self, worker: int, number: int) -> None:
        self._lent.setdefault(worker, set()).add(number)

    def ended(self, worker: int, number: int) -> None:
        """A lease is over, if it was lent or not."""
        lent = self._lent.get(worker)
        if lent is not None:
            lent.discard(number)
            if not lent:
                del self._lent[worker]

    def call(self, now: float) -> tuple[int, ...]:
        """Begins to call back all that is lent; returns the workers that are to be told."""
        told = tuple(self._lent)
        self._lent.clear()
        if told:
            self._called.update(told)
            self._since = now
        return told

    def answered(self, worker: int) -> None:
        """It has nothing idle any more."""
        self._called.discard(worker)

    def gone(self, worker: int) -> None:
        """All that it held is free, and nobody of its waits."""
        self._lent.pop(worker, None)
        self._called.discard(worker)
        for held in [held for held in self._held if held[0] == worker]:
            del self._held[held]

    def tick(self, now: float) -> None:
        """Waits no longer for a worker that does not answer."""
        if now >= self._since + PATIENCE_SECONDS:
            self._called.clear()

    def hold(self, worker: int, ask: Ask) -> None:
        self._held[worker, ask.id] = ask

    def forget(self, worker: int, number: int) -> bool:
        """The client has left; whether its request was waiting here."""
        return self._held.pop((worker, number), None) is not None

    def release(self) -> list[tuple[int, Ask]]:
        """Who waited, in the order in which they came, once all answers are there; nobody before."""
        if self._called or not self._held:
            return []
        held, self._held = self._held, {}
        return [(worker, ask) for (worker, _), ask in held.items()]
