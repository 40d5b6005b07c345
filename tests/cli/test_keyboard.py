"""Questions at a terminal, on a real one."""

import os
import signal
import sys

from tests.cli.typist import Typist

ASK = """
import asyncio, sys
from olladist.cli.keyboard import Questions, agreed, ask, somebody_there
from olladist.output.screen import open_screen

assert somebody_there()
screen = open_screen()
"""


def asked(program: str) -> Typist:
    """A program that asks, at a terminal."""
    return Typist([sys.executable, "-c", ASK + program], {**os.environ, "TERM": "dumb"})


def test_a_secret_is_not_echoed() -> None:
    """What is typed reaches the program and never the screen, and the terminal is as before."""
    typist = asked('print("got", len(asyncio.run(ask(screen, "password: ", secret=True))))')
    typist.sees("password: ")
    typist.types("geheim\n")
    typist.sees("got 6")

    assert typist.echoes()
    assert typist.end() == 0
    assert "geheim" not in typist.transcript


def test_only_yes_is_yes() -> None:
    """y and yes agree, an empty answer does not."""
    typist = asked('print([asyncio.run(agreed(screen, q)) for q in ("one?", "two?", "three?")])')
    for question, answer in (("one?", "Yes\n"), ("two?", "\n"), ("three?", "y\n")):
        typist.sees(f"{question} [y/N]")
        typist.types(answer)
    typist.sees("[True, False, True]")

    assert typist.end() == 0


def test_an_interrupted_question_gives_the_terminal_back() -> None:
    """Ctrl-C while a password is asked for ends the program at once, with echo on again."""
    typist = asked('asyncio.run(ask(screen, "password: ", secret=True))')
    typist.sees("password: ")

    typist.process.send_signal(signal.SIGINT)
    status = typist.process.wait(20)

    assert status != 0
    assert typist.echoes()
    typist.end()


def test_a_host_key_is_shown_before_it_is_asked_about() -> None:
    """Host, address, type and fingerprint stand above the question."""
    typist = asked(
        "print(asyncio.run(Questions(screen).prompts().accept_host_key"
        '("gpu1", "198.51.100.11", "ssh-ed25519", "SHA256:abc")))'
    )
    typist.sees("gpu1 (198.51.100.11)")
    typist.sees("ssh-ed25519 SHA256:abc")
    typist.sees("[y/N]")
    typist.types("n\n")
    typist.sees("False")

    assert typist.end() == 0
