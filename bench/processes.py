"""Programs that a measurement needs, started and ended by it."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

# Proxies run on the one, everything else of a measurement on the other; a machine that has but one tells little.
_CORES = sorted(os.sched_getaffinity(0))
PROXY_CORE, LOAD_CORE = _CORES[-1], _CORES[0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path, seconds: float = 30) -> None:
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        pause.wait(0.05)
    raise RuntimeError(f"nothing listens on port {port}: {log.read_text()[-2000:]}")


@contextlib.contextmanager
def running(
    words: list[str], port: int, log: Path, *, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """The program from when it listens on `port` until the end of the block."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **(env or {})}
        )
    try:
        wait_for_port(port, process, log)
        yield process
    finally:
        process.terminate()
        process.wait(90)


def module(name: str, *arguments: object, core: int = LOAD_CORE) -> list[str]:
    """The words that run one of our modules on one core."""
    return ["taskset", "-c", str(core), sys.executable, "-m", name, *map(str, arguments)]


@contextlib.contextmanager
def backends(ports: Sequence[int], directory: Path) -> Iterator[None]:
    """Stub backends on these ports."""
    with running(module("bench.stub", *ports), ports[-1], directory / "stub.log"):
        yield
