"""The supervisor of detached servers, run for real: started, crashed, stopped, fooled, and given too much to log."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import resources
from pathlib import Path

import pytest

from olladist.ssh.words import quote

SERVER = """#!/bin/sh
echo "serving as $$ with $WORDS"
sleep 1000 &
echo $! >"$OLLADIST_DIRECTORY/runner"
[ -z "$STUBBORN" ] || trap '' TERM
[ -z "$NOISY" ] || while [ $((n += 1)) -lt 400 ]; do echo "line $n of many"; done
while :; do wait; done
"""


def wait_until(condition: Callable[[], object], what: str, seconds: float = 15) -> None:
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        pause.wait(0.02)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split(" ")[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


class Supervised:
    """A directory with a server to supervise."""

    def __init__(self, folder: Path) -> None:
        self.script = folder / "supervise.sh"
        self.directory = folder / "run" / "11434"
        self.directory.mkdir(parents=True)
        self.script.write_bytes(resources.files("olladist.host.service").joinpath("supervise.sh").read_bytes())
        self.program = folder / "a program"
        self.program.write_text(SERVER)
        self.program.chmod(0o755)
        self.settings(WORDS="it's $HOME")

    def settings(self, **environ: str) -> None:
        environ = {"OLLADIST_BINARY": str(self.program), "OLLADIST_DIRECTORY": str(self.directory), **environ}
        text = "".join(f"export {name}={quote(value)}\n" for name, value in environ.items())
        (self.directory / "env").write_text(text)

    def run(self, what: str, **environ: str) -> None:
        command = ["/bin/sh", str(self.script), what, str(self.directory)]
        environ = {"PATH": os.environ["PATH"], **environ}
        done = subprocess.run(command, env=environ, capture_output=True, timeout=40, check=False, text=True)
        assert (done.returncode, done.stderr) == (0, "")

    def pid(self, name: str) -> int:
        try:
            return int((self.directory / name).read_text().split(" ")[0])
        except (OSError, ValueError):
            return 0

    def start(self) -> tuple[int, int, int]:
        """Starts it; the pids of supervisor, server and the server's runner."""
        self.run("start")
        wait_until(lambda: self.pid("child") and self.pid("runner"), "the server runs")
        return self.pid("pid"), self.pid("child"), self.pid("runner")

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    found = Supervised(tmp_path)
    yield found
    for name in ("pid", "child"):
        with suppress(ProcessLookupError):
            if found.pid(name):
                os.killpg(found.pid(name), signal.SIGKILL)


def test_the_server_runs_apart_from_whoever_started_it(supervised: Supervised) -> None:
    """In a session of its own, with its settings; a second start changes nothing."""
    pid, server, _ = supervised.start()

    assert os.getsid(pid) == pid
    assert os.getsid(server) == server
    assert supervised.log.startswith(f"serving as {server} with it's $HOME\n")
    assert supervised.start()[:2] == (pid, server)


def test_stop_ends_supervisor_server_and_runners(supervised: Supervised) -> None:
    """Nothing is left of it, and stopping it again is no error."""
    pids = supervised.start()

    supervised.run("stop")

    assert [pid for pid in pids if alive(pid)] == []
    assert not (supervised.directory / "pid").exists()
    supervised.run("stop")


def test_a_server_that_ends_is_started_again_without_its_old_runners(supervised: Supervised) -> None:
    """An aborted Ollama leaves runners that hold the GPU's memory: they are ended first."""
    pid, server, runner = supervised.start()
    os.kill(server, signal.SIGKILL)

    wait_until(lambda: supervised.pid("child") not in {0, server}, "another server runs")

    assert not alive(runner)
    assert supervised.pid("pid") == pid
    assert (supervised.directory / "restarts").read_text() == "1\n"
    assert "olladist: the server ended with status 137 after" in supervised.log


def test_a_server_that_always_ends_is_started_ever_more_slowly(supervised: Supervised) -> None:
    """After 1 s, then 2 s; the log says so."""
    supervised.program.write_text("#!/bin/sh\nexit 7\n")
    supervised.run("start")

    wait_until(lambda: "again in 2 s" in supervised.log, "the second pause")

    assert "status 7" in supervised.log
    assert "again in 1 s" in supervised.log


def test_a_server_that_ignores_term_is_killed_after_the_grace(supervised: Supervised) -> None:
    """Stopping takes as long as the grace then, and ends all the same."""
    supervised.settings(STUBBORN="yes")
    _, server, _ = supervised.start()

    supervised.run("stop", OLLADIST_GRACE="2")

    assert not alive(server)


def test_another_process_with_our_pid_is_neither_stopped_nor_taken_for_ours(supervised: Supervised) -> None:
    """After a reboot the same number means another process: the start time tells them apart."""
    with subprocess.Popen(["sleep", "1000"]) as other:
        for name in ("pid", "child"):
            (supervised.directory / name).write_text(f"{other.pid} 1\n")

        supervised.run("stop")
        assert other.poll() is None

        for name in ("pid", "child"):
            (supervised.directory / name).write_text(f"{other.pid} 1\n")
        pid, server, _ = supervised.start()
        assert other.pid not in {pid, server}
        supervised.run("stop")
        assert other.poll() is None
        other.kill()


def test_a_server_whose_supervisor_was_killed_is_stopped_too(supervised: Supervised) -> None:
    """It is recorded by itself."""
    pid, server, runner = supervised.start()
    os.kill(pid, signal.SIGKILL)

    supervised.run("stop")

    assert [left for left in (server, runner) if alive(left)] == []


def test_a_supervisor_whose_files_are_gone_ends_with_its_server(supervised: Supervised) -> None:
    """It would otherwise fight with the next one for the port."""
    pid, server, _ = supervised.start()
    (supervised.directory / "pid").unlink()
    os.kill(server, signal.SIGTERM)

    wait_until(lambda: not alive(pid), "the supervisor ends")


def test_the_log_is_bounded(supervised: Supervised) -> None:
    """Copied and cut at its limit while the server goes on writing to its end."""
    supervised.settings(NOISY="yes", OLLADIST_LOG_BYTES="4000", OLLADIST_LOG_EVERY="0.1")
    _, server, _ = supervised.start()

    wait_until((supervised.directory / "log.1").exists, "the log is rotated")
    wait_until(lambda: (supervised.directory / "log").stat().st_size < 4000, "the log is cut")
    assert "line 1 of many" in (supervised.directory / "log.1").read_text()

    os.kill(server, signal.SIGKILL)  # what is written next stands at the beginning, not after a hole
    wait_until(lambda: "olladist: the server ended" in supervised.log, "the next line")
    assert "\0" not in supervised.log
