"""Runs olladist's commands as their user would, and shows each command line with what it prints."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from olladist.demo.stage import Stage
from olladist.errors import OlladistError

_COMMAND_SECONDS = 180.0
_START_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that ended."""

    command: str
    status: int
    output: str
    seconds: float


class Shell:
    """The operator's shell; `say` prints one line."""

    def __init__(self, stage: Stage, say: Callable[[str], None]) -> None:
        self.stage = stage
        self.say = say

    def olladist(self, *words: str) -> Ran:
        """Runs a command to its end, its output shown as it comes."""
        command = " ".join(("olladist", *words))
        self.say(f"\n$ {command}")
        begun = time.monotonic()
        with self._started(words) as process:
            assert process.stdout is not None  # noqa: S101  asked for as a pipe
            lines = []
            for line in process.stdout:
                lines.append(line)
                self.say("    " + self.stage.shortened(line.rstrip("\n")))
            status = process.wait()
        return Ran(command, status, "".join(lines), time.monotonic() - begun)

    @contextmanager
    def _started(self, words: tuple[str, ...]) -> Iterator[subprocess.Popen[str]]:
        """A command that is dead when the context is left, and after its time in any case."""
        process = self._start(words, new_session=False)
        watchdog = threading.Timer(_COMMAND_SECONDS, process.kill)
        watchdog.daemon = True  # a Ctrl-C between any two lines must not leave us waiting for it
        try:
            watchdog.start()
            yield process
        finally:
            watchdog.cancel()
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    @contextmanager
    def gateway(self) -> Iterator[None]:
        """`olladist proxy` in the background; it serves clients while the context lasts."""
        words = ("proxy", "--workers", "2")
        self.say(f"\n$ olladist {' '.join(words)} &")
        log = self.stage.folder / "proxy.log"
        with log.open("wb") as file:
            process = self._start(words, new_session=True, output=file.fileno())
        try:
            wait_until(lambda: "listening on" in log.read_text(errors="replace"), process, log)
            said = [line for line in log.read_text(errors="replace").splitlines() if not line.startswith("{")]
            self.say("\n".join(f"    {self.stage.shortened(line)}" for line in said))  # without its log
            yield
        finally:
            end(process)

    def _start(
        self, words: tuple[str, ...], *, new_session: bool, output: int = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "olladist", *words],
            cwd=self.stage.home,
            env=self.stage.environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=new_session,
        )


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[str], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            said = log.read_text(errors="replace").strip()[-2000:]
            raise OlladistError(f"the gateway does not start:\n{said}", hint=f"its output is in {log}")
        time.sleep(0.02)


def end(process: subprocess.Popen[str]) -> None:
    """Asks twice, the second time for an end at once, then does not ask."""
    for number, seconds in ((signal.SIGTERM, 5.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 10.0)):
        with contextlib.suppress(ProcessLookupError):
            if number is signal.SIGKILL:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
        return
