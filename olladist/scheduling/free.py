"""Machines with a free slot for one model, by the seconds that a request would keep it: the least is found without a look at all of them."""

from heapq import heapify, heappop, heappush

# Entries that do not count any more are let lie up to so many beside one for each machine: then they are fewer than what was put since.
_LET_LIE = 64


class Free:
    """Each machine counts with the seconds that it was put in with last."""

    __slots__ = ("_heap", "_seconds")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []  # those of `_seconds`, among others that do not count any more
        self._seconds: dict[int, float] = {}

    def copied(self) -> "Free":
        free = Free()
        free._heap = list(self._heap)
        free._seconds = dict(self._seconds)
        return free

    def put(self, number: int, seconds: float) -> None:
        if self._seconds.get(number) == seconds:
            return
        self._seconds[number] = seconds
        heappush(self._heap, (seconds, number))
        if len(self._heap) > 2 * len(self._seconds) + _LET_LIE:
            self._heap = [(seconds, number) for number, seconds in self._seconds.items()]
            heapify(self._heap)

    def discard(self, number: int) -> None:
        self._seconds.pop(number, None)

    def first(self) -> tuple[float, int] | None:
        """(seconds, machine); None where there is none."""
        while self._heap:
            seconds, number = self._heap[0]
            if self._seconds.get(number) == seconds:
                return seconds, number
            heappop(self._heap)
        return None
