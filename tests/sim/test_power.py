"""Finding every process of a host, and ending them."""

import os
import subprocess
import sys

from olladist.sim.power import MARK, Process, doomed, kill_all, processes


def test_the_marked_and_all_that_descend_from_them_are_doomed() -> None:
    """And from the host's own server; nobody else."""
    found = [
        Process(1, 0, marked=False),
        Process(10, 1, marked=True),
        Process(11, 10, marked=False),
        Process(12, 11, marked=False),
        Process(20, 1, marked=False),
        Process(21, 20, marked=False),
        Process(30, 1, marked=False),
    ]

    assert doomed(found, 20) == {10, 11, 12, 20, 21}
    assert doomed(found, None) == {10, 11, 12}


def test_everything_marked_dies_at_once() -> None:
    """A process in a session of its own and its children too; one with another mark lives on."""
    script = (
        "import subprocess, sys, time; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); time.sleep(60)"
    )

    def start(mark: str) -> subprocess.Popen[str]:
        env = {"PATH": os.environ["PATH"], MARK: mark}
        return subprocess.Popen(
            [sys.executable, "-c", script], env=env, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    mark = f"test-{os.getpid()}"
    with start(mark) as doomed_one, start(mark + "-other") as other:
        assert doomed_one.stdout is not None
        assert other.stdout is not None
        child = int(doomed_one.stdout.readline())
        bystander = int(other.stdout.readline())
        kill_all(mark, None)
        left = {process.pid for process in processes(mark)}

        assert doomed_one.wait(10) == -9
        assert child not in left
        assert {other.pid, bystander} <= left
        kill_all(mark + "-other", None)
