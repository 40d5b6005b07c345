"""One backend, watched."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from olladist.gateway.control import answers
from olladist.gateway.control.answers import BadAnswer, Row
from olladist.gateway.control.backends import Backend
from olladist.gateway.control.questions import Questions
from olladist.gateway.control.roster import Roster
from olladist.gateway.control.upstreams import Answered, Failed
from olladist.scheduling import health
from olladist.scheduling.health import State


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between questions, and until an answer is too late.

    A listing may take long on a slow disk (Ollama reads every manifest) or while a runner is being closed (/api/ps waits for the
    scheduler's lock): that is no sign of a host that is gone, so it has time.
    """

    probe_every: float = health.PROBE_EVERY
    probe_timeout: float = health.PROBE_TIMEOUT
    recheck_after: float = health.RECHECK_AFTER
    tags_every: float = 5.0
    loaded_every: float = 2.0
    listing_timeout: float = 10.0


@dataclass(frozen=True, slots=True)
class Way:
    """What is known of the way to a backend: why it is closed ("" where it is not), and whether it is just being opened."""

    problem: Callable[[Backend], str] = lambda _: ""
    opening: Callable[[Backend], bool] = lambda _: False


# Takes from a backend's listing what does not count.
Sift = Callable[[Backend, tuple[Row, ...]], tuple[Row, ...]]


class Reading:
    """Single flight: who asks while an answer is under way gets that one. `began` is of the loop's clock."""

    def __init__(self, read: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.began = 0.0
        self._read = read
        self._task: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        if self._task is None or self._task.done():
            loop = asyncio.get_running_loop()
            self.began = loop.time()
            self._task = loop.create_task(self._read())
        return self._task

    async def anew(self) -> None:
        """Returns after a reading that began after this was called: one that is under way may not have seen what has just been done."""
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task])
        await asyncio.wait([self.start()])

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()


class Watch:
    """Probes and lists one backend until it is cancelled; `hurry` asks for a probe now.

    `first` is set after the first probe that says something: while the way is being opened none does.
    """

    def __init__(
        self,
        backend: Backend,
        roster: Roster,
        pace: Pace,
        way: Way,
        jitter: Callable[[], float],
        sift: Sift = lambda _, rows: rows,
    ) -> None:
        self.first = asyncio.Event()
        self.hurry = asyncio.Event()
        self.tags = Reading(self._read_tags)
        self.loaded = Reading(self._read_loaded)
        self._backend = backend
        self._questions = Questions(backend)
        self._roster = roster
        self._pace = pace
        self._way = way
        self._jitter = jitter
        self._sift = sift
        # Most of the time it is the same as the last time, byte for byte.
        self._rows_of_tags = lru_cache(1)(answers.read_tags)
        self._rows_of_loaded = lru_cache(1)(answers.read_loaded)

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._probe_for_ever())
                tasks.create_task(self._list_for_ever(self.tags, self._pace.tags_every))
                tasks.create_task(self._list_for_ever(self.loaded, self._pace.loaded_every))
        finally:
            self.tags.stop()
            self.loaded.stop()
            self._questions.close()

    async def _probe_for_ever(self) -> None:
        number = self._backend.id
        while True:
            problem, version, silent = await self._probe()
            before = self._roster.seen.get(number)
            if before is None:
                return  # it left the roster meanwhile
            if not problem and before.state is State.DOWN:
                # What it holds may have changed while it was away, and it gets work as soon as it counts as up.
                await asyncio.wait([self.tags.start(), self.loaded.start()], timeout=self._pace.probe_timeout)
            self._roster.probed(number, problem, version, silent=silent)
            self.hurry.clear()
            opening = bool(problem) and self._way.opening(self._backend)
            if not opening:
                self.first.set()
            seen = self._roster.seen.get(number)
            recheck = opening or (seen is not None and seen.health.wants_recheck)
            await self._pause(self._pace.recheck_after if recheck else self._spread(self._pace.probe_every))

    async def _list_for_ever(self, reading: Reading, every: float) -> None:
        while True:
            await asyncio.sleep(self._spread(every))
            seen = self._roster.seen.get(self._backend.id)
            if seen and seen.state is not State.DOWN:
                await asyncio.wait([reading.start()])

    def _spread(self, seconds: float) -> float:
        """Up to a fifth less, so that a fleet is not asked in one instant; never more: the sums of scheduling.health hold."""
        return seconds * (1 - 0.2 * self._jitter())

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.hurry.wait()

    async def _probe(self) -> tuple[str, str, bool]:
        """(problem, version, whether it was just silent); either problem or version is empty."""
        try:
            answer = await self._get("/api/version", answers.VERSION_BYTES_MAX, self._pace.probe_timeout)
            return "", answers.read_version(answer.body), False
        except Failed as failure:
            lost = self._way.problem(self._backend)
            return lost or str(failure), "", failure.silent and not lost
        except BadAnswer as bad:
            return f"is no Ollama: its answer to /api/version {bad}", "", False

    async def _read_tags(self) -> None:
        try:
            answer = await self._get("/api/tags", answers.LISTING_BYTES_MAX, self._pace.listing_timeout)
            rows = self._rows_of_tags(answer.body)
            if self._backend.id in self._roster.backends:
                self._roster.listed(self._backend.id, self._sift(self._backend, rows))
        except Failed as failure:
            self._roster.listing_failed(self._backend.id, f"cannot list its models: {failure}")
        except BadAnswer as bad:
            self._roster.listing_failed(self._backend.id, f"cannot list its models: its answer {bad}")

    async def _read_loaded(self) -> None:
        try:
            answer = await self._get("/api/ps", answers.LISTING_BYTES_MAX, self._pace.listing_timeout)
            self._roster.loaded(self._backend.id, self._rows_of_loaded(answer.body), answers.read_date(answer.date))
        except Failed as failure:
            self._roster.loaded_failed(self._backend.id, f"cannot list what is loaded: {failure}")
        except BadAnswer as bad:
            self._roster.loaded_failed(self._backend.id, f"cannot list what is loaded: its answer {bad}")

    async def _get(self, path: str, bytes_max: int, within: float) -> Answered:
        answer = await self._questions.get(path, bytes_max=bytes_max, within=within)
        if answer.status != 200:
            raise Failed(f"{path} answered {answer.status}{_MEANING.get(answer.status, '')}")
        return answer


_MEANING = {
    403: " (it does not accept the gateway's Host header)",
    404: " (is it an Ollama?)",
}
