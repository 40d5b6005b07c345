"""Requests on one host that slow each other down: how far each is, and which gets to its next mark first.

A GPU has one memory bus and a CPU its cores. Runners take turns as processes do, and what is in the slots of one runner runs in one
batch (runner/llamarunner): so a request has its runner's part of the host, divided by those beside it in that runner. A prompt is in one
batch with one token of each answer beside it: next to nothing of it is theirs, and they stand still until it is through. So does a prompt that comes
meanwhile, for it is in the next batch.
"""

import math
from collections import Counter
from typing import NamedTuple


class Mark(NamedTuple):
    """Request `number` has nothing left of what it was to do, at the time `at` if nothing changes before."""

    at: float
    number: int


class Sharing:
    """`degree` 0: none is slower for the others; 1: all of them together are as fast as one alone. Times are of any clock, and never go back."""

    def __init__(self, degree: float) -> None:
        self.version = 0  # of what `next_mark` is told by: a mark of another version is none any more
        self._degree = degree
        self._models: dict[int, str] = {}
        self._reading: dict[str, list[int]] = {}  # prompts by models, in the order in which they came
        self._left: dict[int, float] = {}  # seconds that it would take alone
        self._slower: dict[int, float] = {}  # so many times
        self._now = 0.0

    def begin(self, number: int, model: str, seconds: float, now: float, *, reads: bool = False) -> None:
        """The request runs, and would be at its mark in so many seconds if it were alone. `reads`: it does its prompt."""
        self._pass(now)
        self._models[number], self._left[number] = model, seconds
        if reads:
            self._reading.setdefault(model, []).append(number)
        self._divide()

    def leave(self, number: int, now: float) -> None:
        self._pass(now)
        model = self._models.pop(number)
        del self._left[number]
        if number in (prompts := self._reading.get(model, [])):
            prompts.remove(number)
        self._divide()

    def next_mark(self) -> Mark | None:
        marks = (
            Mark(self._now + left * self._slower[number], number)
            for number, left in self._left.items()
            if self._slower[number] < math.inf
        )
        return min(marks, default=None)

    def _pass(self, now: float) -> None:
        for number in self._left:
            self._left[number] = max(0.0, self._left[number] - (now - self._now) / self._slower[number])
        self._now = now

    def _divide(self) -> None:
        self.version += 1
        runners = len(set(self._models.values()))
        beside = Counter(self._models.values())
        self._slower = {
            number: self._slowed(number, model, runners, beside[model]) for number, model in self._models.items()
        }

    def _slowed(self, number: int, model: str, runners: int, beside: int) -> float:
        prompts = self._reading.get(model)
        if not self._degree:
            return 1.0
        if prompts and prompts[0] != number:
            return math.inf
        return 1.0 + self._degree * (runners * (1 if prompts else beside) - 1)
