"""Somebody at a real terminal."""

import os
import pty
import select
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


class Typist:
    """Sees what a program shows on its terminal, and types."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], cwd: Path | None = None) -> None:
        self.ours, self.terminal = pty.openpty()
        self.process = subprocess.Popen(
            command, stdin=self.terminal, stdout=self.terminal, stderr=self.terminal, start_new_session=True, env=environ,
            cwd=cwd,
        )  # fmt: skip
        self.transcript = ""
        self.seen = ""  # of it, what nobody has waited for yet

    def sees(self, text: str) -> None:
        """Waits until `text` stands on the screen; what came before it is done with."""
        deadline = time.monotonic() + 40
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            if select.select([self.ours], [], [], 0.2)[0]:
                self._read()
            else:
                assert self.process.poll() is None, f"{text!r} was never shown:\n{self.seen}"
        self.seen = self.seen.partition(text)[2]

    def _read(self) -> None:
        text = os.read(self.ours, 4096).decode(errors="replace")
        self.seen += text
        self.transcript += text

    def types(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self.terminal)[3] & termios.ECHO)

    def end(self) -> int:
        """Reads what is left, so that nobody waits for us, and returns the exit status."""
        while self.process.poll() is None:
            if select.select([self.ours], [], [], 0.2)[0]:
                self._read()
        while select.select([self.ours], [], [], 0)[0]:
            self._read()
        os.close(self.ours)
        os.close(self.terminal)
        return self.process.returncode
