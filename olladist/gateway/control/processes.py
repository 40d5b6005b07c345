"""What a process of ours takes of its machine, out of /proc; nothing where there is none (macOS)."""

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Taken(NamedTuple):
    resident_bytes: int
    cpu_seconds: float


def taken(pid: int, proc: Path = Path("/proc")) -> Taken | None:
    """None for a process that has ended, too."""
    with suppress(OSError, ValueError, IndexError):
        # proc(5): fields are counted from behind the name, which may hold blanks and brackets itself.
        fields = (proc / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()
        pages = int((proc / str(pid) / "statm").read_text().split()[1])
        ticks = int(fields[11]) + int(fields[12])
        return Taken(pages * os.sysconf("SC_PAGE_SIZE"), ticks / os.sysconf("SC_CLK_TCK"))
    return None
