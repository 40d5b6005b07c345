"""Pulling the plug of a throw-away host: finding every process that belongs to it, and killing them all."""

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from olladist.errors import OlladistError

# In the environment of every process of a host.
MARK = "OLLADIST_DEMO_HOST"


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    parent: int
    marked: bool


def processes(mark: str) -> Iterator[Process]:
    """The processes of this machine that still run; `marked` are those with the mark in their environment."""
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if state not in "ZX":
                yield Process(int(entry.name), int(parent), wanted in environment(entry))


def environment(entry: Path) -> list[bytes]:
    """Of another user's process, or of one that is just ending, nothing."""
    try:
        return (entry / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def doomed(found: Iterable[Process], root: int | None) -> set[int]:
    """The marked processes, `root`, and all that descend from them (sshd's own sessions have no environment to read)."""
    found = tuple(found)
    dying = {process.pid for process in found if process.marked or process.pid == root}
    while more := {process.pid for process in found if process.parent in dying} - dying:
        dying |= more
    return dying


def kill_all(mark: str, root: int | None) -> None:
    """Kills until nothing is left: what forks while it is looked for is found the next time."""
    deadline = time.monotonic() + 10
    while dying := doomed(processes(mark), root) - {os.getpid()}:
        for pid in dying:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise OlladistError(f"processes of {mark} do not die: {', '.join(map(str, sorted(dying)))}")
