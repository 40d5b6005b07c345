"""A command at a terminal, and what is on the screen when it has ended."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

COLUMNS, ROWS = 100, 40
_PIECE = re.compile(r"\x1b\[(?P<number>[?\d;]*)(?P<what>[A-Za-z])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|(?P<char>[\s\S])")
# What progress.go draws at once, and in it what turns (spinner.go). It draws every 100 ms, and it may be once more after it was
# stopped: over whatever stands there by then.
_FRAME = re.compile(r"\x1b\[\?2026h(.*?)\x1b\[\?2026l", re.DOTALL)
_TURNS = re.compile(r"[\u2800-\u28ff]")
_BLANK = re.compile(r"\x1b\[[?\d;]*[A-Za-z]|\s")


@dataclass(frozen=True)
class Shown:
    status: int
    lines: tuple[str, ...]  # of the screen, without blanks at their ends, and without empty lines at the end
    drawn: str  # everything that was written, as it was


def at_a_terminal(
    words: list[str], env: Mapping[str, str], typed: str = "", *, folder: Path, seconds: float = 60
) -> Shown:
    """Runs a command in a terminal of 100 columns; `typed` is what somebody types there at once."""
    # "screen": a terminal that is not asked for its colours, which would take seconds where nobody answers.
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    process = subprocess.Popen(
        words,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**env, "TERM": "screen"},
        cwd=folder,
        start_new_session=True,
    )
    os.close(theirs)
    if typed:
        os.write(ours, typed.encode())
    written = b"".join(_pieces(ours, time.monotonic() + seconds))
    os.close(ours)
    text = written.decode("utf-8", "replace")
    return Shown(process.wait(seconds), screen(in_time(text)), text)


def _pieces(terminal: int, deadline: float) -> list[bytes]:
    pieces: list[bytes] = []
    while time.monotonic() < deadline:
        ready, _, _ = select.select([terminal], [], [], 0.5)
        if not ready:
            continue
        try:
            piece = os.read(terminal, 1 << 16)
        except OSError:  # EIO: the last one has closed it
            return pieces
        if not piece:
            return pieces
        pieces.append(piece)
    raise AssertionError(f"the command did not end; it wrote {b''.join(pieces)[-2000:]!r}")


def in_time(text: str) -> str:
    """Without frames that were drawn too late: when the lines that they show have ended already, and that say no more than the last one before."""
    pieces: list[str] = []
    at, last, over = 0, "", True
    for frame in _FRAME.finditer(text):
        between = text[at : frame.start()]
        says = _BLANK.sub("", _TURNS.sub("", frame[1]))
        over = over or "\n" in between or "\x1b[2K" in between or bool(_BLANK.sub("", between))
        pieces.append(between)
        if not over or says != last:
            pieces.append(frame[0])
            over = False
        at, last = frame.end(), says
    return "".join(pieces) + text[at:]


def screen(text: str) -> tuple[str, ...]:
    """What is left to see after all that moving about."""
    lines: list[list[str]] = [[]]
    row = column = 0
    for found in _PIECE.finditer(text):
        number, what, char = found["number"], found["what"], found["char"]
        count = int(number) if number and number.isdigit() else 1
        if char == "\n":
            row += 1
            lines += [[] for _ in range(row + 1 - len(lines))]
        elif char == "\r":
            column = 0
        elif char is not None and char >= " ":
            line = lines[row]
            line += " " * (column + 1 - len(line))
            line[column] = char
            column += 1
        elif what == "A":
            row = max(0, row - count)
        elif what == "G":
            column = count - 1
        elif what == "D":
            column = max(0, column - count)
        elif what == "K":
            del lines[row][0 if number == "2" else column :]
    shown = ["".join(line).rstrip() for line in lines]
    while shown and not shown[-1]:
        shown.pop()
    return tuple(shown)
