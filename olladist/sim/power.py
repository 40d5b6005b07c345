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
    start: int = 0  # clock ticks after boot: tells a later process with the same id apart


def processes(mark: str) -> Iterator[Process]:
    """The processes of this machine that still run; `marked` are those with the mark in their environment."""
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            # proc_pid_stat(5): state, parent, …; the start time is field 22.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if fields[0] not in "ZX":
                yield Process(int(entry.name), int(fields[1]), wanted in environment(entry), int(fields[19]))


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
    """Kills until nothing is left: what forks while it is looked for is found the next time.

    When it returns they have all ended: a process that is just ending has no environment any more, but its ports still.
    """
    deadline = time.monotonic() + 10
    killed: set[tuple[int, int]] = set()
    while True:
        found = tuple(processes(mark))
        dying = doomed(found, root) - {os.getpid()}
        left = {process.pid for process in found if (process.pid, process.start) in killed} | dying
        if not left:
            return
        if time.monotonic() > deadline:
            raise OlladistError(f"processes of {mark} do not die: {', '.join(map(str, sorted(left)))}")
        killed |= {(process.pid, process.start) for process in found if process.pid in dying}
        for pid in dying:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
