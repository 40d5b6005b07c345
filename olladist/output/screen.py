"""The two channels of a command: stdout carries data, stderr carries talk. Both read well without colour."""

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TextIO

import msgspec
from rich.console import Console, RenderableType
from rich.text import Text

# Wider than any line of ours: what goes into a pipe or a file is never wrapped or cut.
PIPE_COLUMNS = 10_000


def piped(stream: TextIO) -> Console:
    """Writes plain lines, as long as they are."""
    return Console(
        file=stream, force_terminal=False, no_color=True, highlight=False, markup=False, emoji=False, width=PIPE_COLUMNS
    )


def _console(stream: TextIO) -> Console:
    """NO_COLOR counts where it is set to anything but the empty string (no-color.org)."""
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        return piped(stream)
    return Console(
        file=stream,
        force_terminal=True,
        no_color=bool(os.environ.get("NO_COLOR")),
        highlight=False,
        markup=False,
        emoji=False,
    )


@dataclass(frozen=True, slots=True)
class Screen:
    """Where a command shows its work. With `json`, `show` is silent and `document` prints; without, the other way round."""

    out: Console
    err: Console
    json: bool = False
    verbose: bool = False

    @property
    def interactive(self) -> bool:
        """Somebody reads along on a terminal that can redraw lines."""
        return self.err.is_terminal

    def show(self, *blocks: RenderableType) -> None:
        """Data for people, on stdout."""
        if not self.json:
            for block in blocks:
                _print(self.out, block)

    def document(self, document: msgspec.Struct) -> None:
        """The one document of a `--json` run, on stdout."""
        if self.json:
            text = msgspec.json.format(msgspec.json.encode(document), indent=2)
            self.out.file.write(text.decode() + "\n")
            self.out.file.flush()

    def talk(self, *blocks: RenderableType) -> None:
        """What is being done and what went wrong, on stderr."""
        for block in blocks:
            _print(self.err, block)

    def lines(self, texts: Iterable[str]) -> None:
        """Lines of talk as they are."""
        for text in texts:
            self.talk(Text(text))

    def raw(self, text: str) -> None:
        """What somebody else's program said, as it is, on stdout."""
        self.out.file.write(text)
        self.out.file.flush()


def _print(console: Console, block: RenderableType) -> None:
    """As Console.print, without the blanks that a table leaves at the end of lines."""
    if console.is_terminal:
        console.print(block)
        return
    with console.capture() as captured:
        console.print(block)
    console.file.writelines(line.rstrip() + "\n" for line in captured.get().splitlines())
    console.file.flush()


def open_screen(*, json: bool = False, verbose: bool = False) -> Screen:
    return Screen(_console(sys.stdout), _console(sys.stderr), json, verbose)
