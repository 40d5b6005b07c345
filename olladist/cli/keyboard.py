"""Questions to the person at the keyboard. Cancelling one gives the terminal back as it was."""

import asyncio
import os
import select
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from rich.text import Text

from olladist.output.screen import Screen
from olladist.ssh.prompts import Prompts

# How long a cancelled question may still hold its thread, in seconds.
STOP_SECONDS = 0.1
ANSWER_BYTES_MAX = 4096


def somebody_there() -> bool:
    """Whether there is a terminal to ask on. A command in a pipe or a timer never waits for an answer."""
    return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()


async def ask(screen: Screen, question: str, *, secret: bool = False) -> str | None:
    """What is typed after `question` on the terminal, without its newline; None at its end (Ctrl-D).

    A secret is not echoed. Reads in a thread of its own, so that connections stay alive meanwhile.
    """
    stop = threading.Event()
    descriptor = sys.stdin.fileno()
    # The question comes once nothing is echoed any more: fast fingers must not be seen either.
    with _without_echo(descriptor) if secret else nullcontext():
        # Past rich's own line handling, so that the cursor stays behind the question.
        screen.err.file.write(question)
        screen.err.file.flush()
        try:
            return await asyncio.to_thread(_read_line, descriptor, stop)
        finally:
            stop.set()
            if secret:
                screen.err.file.write("\n")
                screen.err.file.flush()


async def agreed(screen: Screen, question: str) -> bool:
    """Whether the answer is yes; anything else, and no answer, is no."""
    answer = await ask(screen, f"{question} [y/N] ")
    return (answer or "").strip().lower() in {"y", "yes"}


def _read_line(descriptor: int, stop: threading.Event) -> str | None:
    """One line of a terminal in its canonical mode, which hands out whole lines only."""
    while not stop.is_set():
        ready, _, _ = select.select([descriptor], [], [], STOP_SECONDS)
        if ready:
            line = os.read(descriptor, ANSWER_BYTES_MAX)
            return line.decode(errors="replace").rstrip("\r\n") if line else None
    return None


@contextmanager
def _without_echo(descriptor: int) -> Iterator[None]:
    before = termios.tcgetattr(descriptor)
    silent = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    # TCSAFLUSH: what was typed ahead, echoed, is no answer to this question.
    termios.tcsetattr(descriptor, termios.TCSAFLUSH, silent)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@dataclass(slots=True)
class Questions:
    """What the ssh room may ask while it connects, with the progress display out of the way meanwhile."""

    screen: Screen
    paused: Callable[[], AbstractContextManager[None]] = nullcontext

    async def accept_host_key(self, host: str, address: str, key_type: str, fingerprint: str) -> bool:
        with self.paused():
            self.screen.talk(
                Text(f"Nobody has seen the host key of {host} ({address}) yet:"), Text(f"  {key_type} {fingerprint}")
            )
            return await agreed(self.screen, "Is this the right host?")

    async def secret(self, host: str, what: str) -> str | None:
        with self.paused():
            return await ask(self.screen, f"{host}: {what}: ", secret=True)

    def prompts(self) -> Prompts:
        return Prompts(accept_host_key=self.accept_host_key, secret=self.secret)
