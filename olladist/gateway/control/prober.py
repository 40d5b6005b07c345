"""Asks each backend how it is, for ever: its version for health, its models and what is in memory for placement.

Backends are asked independently of each other: one that does not answer costs nobody else anything.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from olladist.gateway.control.answers import Row
from olladist.gateway.control.backends import Backend
from olladist.gateway.control.roster import Change, Roster
from olladist.gateway.control.watch import Pace, Reading, Sift, Watch, Way
from olladist.scheduling.health import State


@dataclass(slots=True)
class _Watched:
    watch: Watch
    task: asyncio.Task[None]


class Prober:
    """Watches whatever backends the roster has, in tasks of the group given, and writes what it learns into the roster."""

    def __init__(
        self,
        roster: Roster,
        tasks: asyncio.TaskGroup,
        *,
        way: Way | None = None,
        pace: Pace | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.roster = roster
        self.sift: Sift = lambda _, rows: rows  # what each listing goes through
        self._group = tasks
        self._way = way or Way()
        self._pace = pace or Pace()
        self._jitter = jitter
        self._watched: dict[int, _Watched] = {}
        roster.listeners.append(self._changed)

    async def wait_first(self, within: float) -> None:
        """Returns when it is known of every backend whether it answers, or after so many seconds."""
        firsts = [asyncio.ensure_future(watched.watch.first.wait()) for watched in self._watched.values()]
        if firsts:
            _, late = await asyncio.wait(firsts, timeout=within)
            for waiter in late:
                waiter.cancel()

    async def refresh_tags(self, *, older_than: float, within: float) -> None:
        """Reads the models of every backend that is not down again, unless that was done in the last `older_than` seconds.

        Returns after `within` seconds at the latest; of a backend that is slower, what was known stands until it answers, and
        nobody else waits for it meanwhile.
        """
        stale = [w.watch.tags for n, w in self._live() if self._aged(self.roster.seen[n].tags_read, older_than)]
        await _all(stale, within)

    async def refresh_loaded(self, *, older_than: float, within: float) -> None:
        """The same for what is in memory."""
        stale = [w.watch.loaded for n, w in self._live() if self._aged(self.roster.seen[n].loaded_read, older_than)]
        await _all(stale, within)

    async def read_tags(self, numbers: Iterable[int], within: float) -> None:
        """Reads the models of these backends anew, whatever was read before; returns after `within` seconds at the latest."""
        await _anew([self._watched[number].watch.tags for number in numbers if number in self._watched], within)

    async def read_loaded(self, numbers: Iterable[int], within: float) -> None:
        """The same for what is in memory."""
        await _anew([self._watched[number].watch.loaded for number in numbers if number in self._watched], within)

    def check_tags(self, number: int) -> None:
        """Has one backend's models read again, without waiting for it."""
        if watched := self._watched.get(number):
            watched.watch.tags.start()

    def _sifted(self, backend: Backend, rows: tuple[Row, ...]) -> tuple[Row, ...]:
        return self.sift(backend, rows)

    def _live(self) -> list[tuple[int, _Watched]]:
        return [(n, w) for n, w in self._watched.items() if self.roster.seen[n].state is not State.DOWN]

    def _aged(self, read: float, older_than: float) -> bool:
        return read < 0 or read <= self.roster.now() - older_than

    def _changed(self, change: Change) -> None:
        number = change.backend.id
        if change.after is None:
            self._watched.pop(number).task.cancel()
        elif change.before is None:
            watch = Watch(change.backend, self.roster, self._pace, self._way, self._jitter, self._sifted)
            self._watched[number] = _Watched(watch, self._group.create_task(watch.run()))
        elif change.after.health.wants_recheck and not change.before.health.wants_recheck:
            self._watched[number].watch.hurry.set()


async def _anew(readings: list[Reading], within: float) -> None:
    tasks = [asyncio.ensure_future(reading.anew()) for reading in readings]
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=within)
        for task in late:
            task.cancel()


async def _all(readings: list[Reading], within: float) -> None:
    """Waits for all of them, so that nobody waits again for one that has taken longer already."""
    tasks = [reading.start() for reading in readings]
    oldest = asyncio.get_running_loop().time() - within
    quick = [task for task, reading in zip(tasks, readings, strict=True) if reading.began > oldest]
    if quick:
        await asyncio.wait(quick, timeout=within)
