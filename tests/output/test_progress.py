"""Progress as lines and as a display."""

import re
from collections.abc import Iterator
from io import StringIO

from rich.console import Console

from olladist.errors import HostError
from olladist.fleet.events import Doing, Event, Failed, Finished, Moving
from olladist.output.progress import Watching
from olladist.output.screen import Screen, piped


def lines(events: list[Event], times: Iterator[float]) -> list[str]:
    err = StringIO()
    with Watching(Screen(piped(StringIO()), piped(err)), clock=lambda: next(times)) as watching:
        for event in events:
            watching(event)
    return err.getvalue().splitlines()


def test_without_a_terminal_each_step_is_a_line() -> None:
    """Steps, ends and failures in the middle of steps are lines; what the report at the end says anyway is none."""
    said = lines(
        [
            Doing("gpu1", "connecting"),
            Doing("gpu1", "Install Ollama 0.17.4", 1, 3),
            Finished("gpu1", "up"),
            Finished("gpu2", ""),
            Doing("gpu3", "Start Ollama", 3, 3),
            Failed("gpu3", HostError("gpu3", "starting Ollama", "refused\nmore")),
            Failed("gpu4", HostError("gpu4", "connecting", "refused")),
        ],
        iter([]),
    )

    assert said == [
        "gpu1: Install Ollama 0.17.4 (1/3)",
        "gpu1: up",
        "gpu3: Start Ollama (3/3)",
        "gpu3: failed: refused (while starting Ollama)",
    ]


def test_without_a_terminal_a_copy_says_now_and_then_how_far_it_is() -> None:
    """Begin and end are lines; between them one for a tenth moved, and not more than one in five seconds."""
    sizes = [0, 10, 200, 250, 900, 1000]
    said = lines(
        [Moving("gpu1", "tiny:latest", n * 10**6, 10**9) for n in sizes], iter([0.0, 1.0, 2.0, 5.0, 10.0, 11.0])
    )

    assert said == [
        "gpu1: tiny:latest: 1.0 GB",
        "gpu1: tiny:latest: 250 MB of 1.0 GB, 50 MB/s, 15.0 s left",
        "gpu1: tiny:latest: 900 MB of 1.0 GB, 130 MB/s, 769 ms left",
        "gpu1: tiny:latest: done",
    ]


def test_a_terminal_shows_bars_and_keeps_what_is_over() -> None:
    """The end of a host's work stays on the screen; a question takes the display away for as long as it lasts."""
    err = StringIO()
    terminal = Console(file=err, force_terminal=True, no_color=True, width=100)
    with Watching(Screen(piped(StringIO()), terminal)) as watching:
        watching(Doing("gpu1", "Install Ollama", 1, 2))
        watching(Moving("gpu1", "release", 5, 10))
        watching(Moving("gpu1", "release", 10, 10))
        with watching.paused():
            err.write("a question")
        watching(Doing("gpu1", "Start Ollama", 2, 2))
        watching(Finished("gpu1", "up"))
        watching(Failed("gpu2", HostError("gpu2", "connecting", "refused")))

    said = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", err.getvalue())
    assert "gpu1: up" in said
    assert "gpu2: failed: refused (while connecting)" in said
