import os
from pathlib import Path

import pytest

from olladist.gateway.control.processes import taken

STAT = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 1 0 100 1000 200"


def proc(folder: Path, *, stat: str = STAT, statm: str = "5000 200 100 1 0 300 0") -> Path:
    (folder / "7").mkdir()
    (folder / "7" / "stat").write_text(stat)
    (folder / "7" / "statm").write_text(statm)
    return folder


def test_memory_and_time_are_read(tmp_path: Path) -> None:
    """Whatever is in the name of the process, blanks and brackets included."""
    figures = taken(7, proc(tmp_path))

    assert figures is not None
    assert figures.resident_bytes == 200 * os.sysconf("SC_PAGE_SIZE")
    assert figures.cpu_seconds == 200 / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(("stat", "statm"), [("", "1 2"), (STAT, ""), ("7 (x) S 1", "1 2"), (STAT, "a b")])
def test_what_cannot_be_read_is_nothing(tmp_path: Path, stat: str, statm: str) -> None:
    """A process that is just ending, or a system that writes it otherwise."""
    assert taken(7, proc(tmp_path, stat=stat, statm=statm)) is None


def test_a_process_that_is_gone_is_nothing(tmp_path: Path) -> None:
    """And so is every process where there is no /proc."""
    assert taken(7, tmp_path) is None
