"""Work on many hosts while it goes on: lines that redraw themselves on a terminal, plain lines everywhere else."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from olladist.fleet.events import Doing, Event, Failed, Finished, Moving
from olladist.output.screen import Screen
from olladist.units import duration, rate, size

# Without a terminal, a copy says how far it is when it has moved on by a tenth, and not more often than this.
PLAIN_SECONDS = 5.0
PLAIN_SHARE = 0.1


class Watching:
    """Shows events on stderr from `with` on; `paused` clears the screen for a question."""

    def __init__(self, screen: Screen, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._screen = screen
        self._show: _Terminal | _Plain = _Terminal(screen) if screen.interactive else _Plain(screen, clock)

    def __enter__(self) -> Self:
        self._show.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._show.stop()

    def __call__(self, event: Event) -> None:
        self._show.event(event)

    @contextmanager
    def paused(self) -> Iterator[None]:
        self._show.stop()
        try:
            yield
        finally:
            self._show.start()


def _failed(event: Failed) -> Text:
    first = event.error.cause.splitlines()[0] if event.error.cause else type(event.error).__name__
    return Text.assemble((event.host, "bold"), ": ", ("failed", "red"), f": {first} (while {event.error.during})")


class _Plain:
    """One line for each thing that begins or ends; for logs, pipes and dumb terminals."""

    def __init__(self, screen: Screen, clock: Callable[[], float]) -> None:
        self._screen = screen
        self._clock = clock
        # What is being moved: when it began, when it last said so, and how far it was then.
        self._moving: dict[tuple[str, str], tuple[float, float, int]] = {}
        self._moved: set[tuple[str, str]] = set()
        self._stepping: set[str] = set()

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def event(self, event: Event) -> None:
        match event:
            # Only the steps of a plan are worth a line; "connecting" on 50 hosts is not.
            case Doing(host, text, number, of) if of:
                self._stepping.add(host)
                self._screen.talk(Text(f"{host}: {text} ({number}/{of})"))
            case Finished(host, text) if text:
                self._screen.talk(Text(f"{host}: {text}"))
            # So with a failure: in the middle of a long work it is news, all others stand in the report that follows at once.
            case Failed(host) if host in self._stepping:
                self._screen.talk(_failed(event))
            case Moving():
                self._move(event)

    def _move(self, event: Moving) -> None:
        key, now = (event.host, event.what), self._clock()
        if key in self._moved:
            return
        if key not in self._moving:
            self._moving[key] = (now, now, event.done)
            self._screen.talk(Text(f"{event.host}: {event.what}: {size(event.total)}"))
        began, said, at = self._moving[key]
        if event.done >= event.total:
            self._moved.add(key)
            self._screen.talk(Text(f"{event.host}: {event.what}: done"))
        elif event.done - at >= PLAIN_SHARE * event.total and now - said >= PLAIN_SECONDS:
            self._moving[key] = (began, now, event.done)
            speed = (event.done - at) / (now - said)
            left = duration((event.total - event.done) / speed)
            self._screen.talk(
                Text(
                    f"{event.host}: {event.what}: {size(event.done)} of {size(event.total)}, {rate(speed)}, {left} left"
                )
            )


class _Terminal:
    """A line per host that works, with a bar for bytes; what is over moves up and stays."""

    def __init__(self, screen: Screen) -> None:
        self._console = screen.err
        host, text = TextColumn("[bold]{task.fields[host]}"), TextColumn("{task.description}", markup=False)
        self._steps = Progress(
            SpinnerColumn(), host, text, TextColumn("{task.fields[place]}"), console=self._console, auto_refresh=False
        )
        self._bytes = Progress(
            SpinnerColumn(),
            host,
            text,
            BarColumn(bar_width=24),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            auto_refresh=False,
        )
        self._doing: dict[str, TaskID] = {}
        self._moving: dict[tuple[str, str], TaskID] = {}
        self._live: Live | None = None

    def start(self) -> None:
        self._live = Live(Group(self._steps, self._bytes), console=self._console, transient=True, refresh_per_second=8)
        self._live.start()

    def stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def event(self, event: Event) -> None:
        match event:
            case Doing(host, text, number, of):
                place = f"{number}/{of}" if of else ""
                if host in self._doing:
                    self._steps.update(self._doing[host], description=text, place=place)
                else:
                    self._doing[host] = self._steps.add_task(text, total=None, host=host, place=place)
            case Moving(host, what, done, total):
                self._move(host, what, done, total)
            case Finished(host, text):
                self._end(host)
                if text:
                    self._console.print(Text.assemble((host, "bold"), ": ", (text, "green")))
            case Failed(host):
                self._end(host)
                self._console.print(_failed(event))

    def _move(self, host: str, what: str, done: int, total: int) -> None:
        key = (host, what)
        if key not in self._moving:
            self._moving[key] = self._bytes.add_task(what, total=total, host=host)
        self._bytes.update(self._moving[key], completed=done, total=total)
        if done >= total:
            self._bytes.remove_task(self._moving.pop(key))

    def _end(self, host: str) -> None:
        if (task := self._doing.pop(host, None)) is not None:
            self._steps.remove_task(task)
        for key in [key for key in self._moving if key[0] == host]:
            self._bytes.remove_task(self._moving.pop(key))
