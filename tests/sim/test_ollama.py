"""The program: starts, says its version, ends."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from olladist.sim.hosts import free_ports

PROGRAM = [sys.executable, "-m", "olladist.sim.ollama"]


def environ(home: Path, port: int, **more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(home), "OLLAMA_HOST": f"127.0.0.1:{port}", **more}


def say(home: Path, port: int, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    env = environ(home, port, **more)
    return subprocess.run([*PROGRAM, *words], env=env, capture_output=True, text=True, timeout=30, check=False)


@contextmanager
def running(home: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """A server that listens, by its own log line."""
    process = subprocess.Popen([*PROGRAM, "serve"], env=environ(home, port), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "Listening on" in line:
                break
        yield process
    finally:
        process.kill()
        process.stderr.close()
        process.wait()


def test_version_is_told_as_ollama_tells_it(tmp_path: Path) -> None:
    """The server's, or a warning and its own."""
    (port,) = free_ports(1)
    alone = say(tmp_path, port, "--version")
    with running(tmp_path, port):
        beside = say(tmp_path, port, "-v")
        other = say(tmp_path, port, "--version", SIM_VERSION="0.18.0")

    assert (
        alone.stdout == "Warning: could not connect to a running Ollama instance\nWarning: client version is 0.17.4\n"
    )
    assert beside.stdout == "ollama version is 0.17.4\n"
    assert other.stdout == "ollama version is 0.17.4\nWarning: client version is 0.18.0\n"


def test_a_taken_port_is_an_error(tmp_path: Path) -> None:
    """In Go's words, with status 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = say(tmp_path, port, "serve")

    assert done.returncode == 1
    assert done.stderr == f"Error: listen tcp 127.0.0.1:{port}: bind: address already in use\n"


def test_sigterm_ends_it_at_once(tmp_path: Path) -> None:
    """With status 0, though a connection is open; it is called ollama as long as it lives."""
    (port,) = free_ports(1)
    with running(tmp_path, port) as process, socket.create_connection(("127.0.0.1", port)):
        name = Path(f"/proc/{process.pid}/comm").read_text().strip()
        process.send_signal(signal.SIGTERM)

        assert process.wait(10) == 0
        assert name == "ollama"


def test_unknown_commands_show_the_usage(tmp_path: Path) -> None:
    """On stderr."""
    done = say(tmp_path, 9, "dance")

    assert (done.returncode, done.stdout) == (1, "")
    assert "ollama serve" in done.stderr
