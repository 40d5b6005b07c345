"""What `make bench` measures can still be measured: each table, so small that its figures say nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.timeout(180)
@pytest.mark.parametrize("table", ["gateway", "rest", "streams", "queue", "tunnels", "faults", "python"])
def test_a_table_can_be_made(table: str) -> None:
    """A table is measured with olladist alone, every answer is whole, and no figure is missing."""
    words = [sys.executable, "-m", "bench", table, "--tiny", "--only", "olladist"]

    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=170)

    assert done.returncode == 0, done.stderr[-4000:]
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) >= 2
    assert "nan" not in done.stdout.replace("direct", "")
