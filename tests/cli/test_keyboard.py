"""Questions at a terminal, on a real one."""

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time

ASK = """
import asyncio, sys
from olladist.cli.keyboard import Questions, agreed, ask, somebody_there
from olladist.output.screen import open_screen

assert somebody_there()
screen = open_screen()
"""


class Typist:
    """Somebody at a terminal on which a Python program runs."""

    def __init__(self, program: str) -> None:
        self.ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", ASK + program], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env=os.environ | {"TERM": "dumb"},
        )  # fmt: skip
        self.terminal = theirs
        self.seen = ""

    def sees(self, text: str) -> None:
        """Waits until `text` stands on the screen."""
        deadline = time.monotonic() + 20
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            if select.select([self.ours], [], [], 0.2)[0]:
                self.seen += os.read(self.ours, 4096).decode()

    def types(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self.terminal)[3] & termios.ECHO)

    def end(self) -> int:
        status = self.process.wait(20)
        os.close(self.ours)
        os.close(self.terminal)
        return status


def test_a_secret_is_not_echoed() -> None:
    """What is typed reaches the program and never the screen, and the terminal is as before."""
    typist = Typist('print("got", len(asyncio.run(ask(screen, "password: ", secret=True))))')
    typist.sees("password: ")
    typist.types("geheim\n")
    typist.sees("got 6")

    assert typist.echoes()
    assert "geheim" not in typist.seen
    assert typist.end() == 0


def test_only_yes_is_yes() -> None:
    """y and yes agree, an empty answer does not."""
    typist = Typist('print([asyncio.run(agreed(screen, q)) for q in ("one?", "two?", "three?")])')
    for question, answer in (("one?", "Yes\n"), ("two?", "\n"), ("three?", "y\n")):
        typist.sees(f"{question} [y/N]")
        typist.types(answer)
    typist.sees("[True, False, True]")

    assert typist.end() == 0


def test_an_interrupted_question_gives_the_terminal_back() -> None:
    """Ctrl-C while a password is asked for ends the program at once, with echo on again."""
    typist = Typist('asyncio.run(ask(screen, "password: ", secret=True))')
    typist.sees("password: ")

    typist.process.send_signal(signal.SIGINT)
    status = typist.process.wait(20)

    assert status != 0
    assert typist.echoes()
    typist.end()


def test_a_host_key_is_shown_before_it_is_asked_about() -> None:
    """Host, address, type and fingerprint stand above the question."""
    typist = Typist(
        "print(asyncio.run(Questions(screen).prompts().accept_host_key"
        '("gpu1", "198.51.100.11", "ssh-ed25519", "SHA256:abc")))'
    )
    typist.sees("gpu1 (198.51.100.11)")
    typist.sees("ssh-ed25519 SHA256:abc")
    typist.sees("[y/N]")
    typist.types("n\n")
    typist.sees("False")

    assert typist.end() == 0
