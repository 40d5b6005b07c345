"""The official `ollama` command at a terminal: the same flows against one Ollama and against a gateway, and the same screens."""

import time
from dataclasses import dataclass

import pytest

from olladist.sim import gguf
from tests.lab.conformance import plain
from tests.lab.conformance.servers import Side
from tests.lab.conformance.terminal import at_a_terminal
from tests.lab.machines import OLLAMA

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

COPY = "http://REGISTRY/you/sky:v1"


@dataclass(frozen=True)
class Step:
    command: str  # what follows `ollama`
    typed: str = ""  # at its prompt


FLOWS: dict[str, list[Step | str]] = {
    "reading": [
        *(
            "--version",
            "list",
            "ls sk",
            "show sky",
            "show sky --modelfile",
            "show sky --parameters",
            "show sky2 --system",
        ),
        *("show nope", "ps", "list nope"),
    ],
    "running": [
        *("run sky why?", "ps", "stop sky", "ps", "run sky2 why? --verbose=false", "stop sky2", "stop nope"),
        *(
            "run sky why? --keepalive 10m",
            "ps",
            "run sky2 why? --hidethinking",
            "stop sky2",
            "stop sky",
            "ps",
        ),
        Step("run sky", "why?\r/show system\r/bye\r"),
    ],
    "creating": [
        *(
            "create made -f Modelfile",
            "list",
            "show made",
            "run made why?",
            "create made -f Modelfile",
        ),
        *(
            "create other -f FromSky",
            "show other --modelfile",
            "cp made you/copy:v2",
            "list",
            "cp nope x",
            "rm made other you/copy:v2",
        ),
        *("rm made", "list"),
    ],
    "registry": [
        *(
            f"cp sky {COPY}",
            f"push --insecure {COPY}",
            f"push --insecure {COPY}",
            f"push {COPY}",
            f"rm {COPY}",
            f"rm {COPY}",
        ),
        *(
            f"pull --insecure {COPY}",
            "list",
            f"pull --insecure {COPY}",
            f"run {COPY} why?",
            f"stop {COPY}",
            f"pull {COPY}",
        ),
        *(
            f"pull --insecure {COPY}-nope",
            f"rm {COPY}",
            f"run --insecure {COPY} why?",
            f"stop {COPY}",
            f"rm {COPY}",
            "list",
        ),
    ],
}


def prepare(side: Side) -> None:
    gguf.write(side.home / "own.gguf", "A file of its own.")
    (side.home / "Modelfile").write_text("FROM ./own.gguf\nPARAMETER num_thread 1\nSYSTEM Be brief.\n")
    (side.home / "FromSky").write_text('FROM sky\nPARAMETER temperature 0.5\nTEMPLATE "{{ .Prompt }}"\nLICENSE MIT\n')


def screen(side: Side, step: Step | str) -> tuple[int, list[str]]:
    """The exit status of a step and what it leaves on the screen."""
    command, typed = (step, "") if isinstance(step, str) else (step.command, step.typed)
    words = [str(OLLAMA), *command.replace("REGISTRY", side.registry).split()]
    shown = at_a_terminal(words, side.environ, typed, folder=side.home)
    lines = plain.table(shown.lines, side.names)
    if command.split()[0] in {"list", "ls", "ps"}:
        lines[1:] = sorted(lines[1:])  # models of one second are in any order
    if command.endswith(("--modelfile", "--parameters")):
        lines = sorted(lines)  # parameters come out of a Go map
    return shown.status, lines


def may_be_chance(step: Step | str) -> bool:
    """A real Ollama unloads in the background, and its command may draw over the first word of an answer with what still turns.

    What changes nothing when it is done again; `--insecure` may pull.
    """
    command = step if isinstance(step, str) else step.command
    return command.split()[0] in {"ps", "run"} and "--insecure" not in command


def both(sides: tuple[Side, Side], step: Step | str) -> tuple[tuple[int, list[str]], tuple[int, list[str]]]:
    """Screens of the two; taken anew for a while where they differ and that may be chance."""
    deadline = time.monotonic() + 10
    while True:
        want, got = screen(sides[0], step), screen(sides[1], step)
        if want == got or not may_be_chance(step) or time.monotonic() > deadline:
            return want, got


def differences(sides: tuple[Side, Side], flow: str) -> list[str]:
    """The steps of a flow that leave different screens, with both."""
    for side in sides:
        prepare(side)
    different = []
    for step in FLOWS[flow]:
        want, got = both(sides, step)
        if want != got:
            told = [f"    {status} | {line}" for status, lines in (want, got) for line in ["---", *lines]]
            different.append("\n".join([f"  ollama {step}", *told]))
    return different


@pytest.mark.parametrize("flow", FLOWS)
def test_the_command_line_shows_the_same(sides: tuple[Side, Side], flow: str) -> None:
    """Exit statuses and what is on the screen at the end, progress bars among it."""
    different = differences(sides, flow)

    assert not different, "\n".join([f"{len(different)} of {len(FLOWS[flow])} differ", *different])
