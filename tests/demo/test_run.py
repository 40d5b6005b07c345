"""The whole demo, with the simulated Ollama, through the command that users run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from olladist.sim.power import MARK

DEMO = [sys.executable, "-m", "olladist", "demo", "--simulated"]


def environ(folder: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(folder), "HOME": str(folder)}


def marked(folder: Path) -> list[str]:
    """Processes of hosts below the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"{MARK}={folder}".encode() in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.mark.timeout(300)
def test_everything_holds_and_nothing_is_left(tmp_path: Path) -> None:
    """Exit status 0, every line of the summary ok, no process and no file left behind."""
    done = subprocess.run(DEMO, env=environ(tmp_path), capture_output=True, text=True, timeout=280, check=False)

    summary = done.stdout.partition("What was shown:\n")[2]
    why = [line for line in done.stdout.splitlines() if "failed:" in line]
    assert done.returncode == 0, "\n".join([*why, summary, done.stdout[-3000:], done.stderr[-3000:]])
    assert "FAILED" not in summary
    assert "Everything held" in summary
    assert "with the simulated Ollama" in summary
    assert marked(tmp_path) == []
    assert not list(tmp_path.glob("olladist-demo-*"))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_whoever_ends_it_ends_everything(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C, a kill, a closed terminal, in the middle of it: status 130, no process and no file left behind."""
    with subprocess.Popen(
        DEMO, env=environ(tmp_path), stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if line.startswith("$ olladist up"):
                break
        os.killpg(demo.pid, number)
        demo.stdout.read()

        assert demo.wait(60) == 130
    assert marked(tmp_path) == []
    assert not list(tmp_path.glob("olladist-demo-*"))
