"""Errors as people read them."""

from pathlib import Path

from olladist.errors import (
    CommandFailed,
    HostError,
    HostKeyRefused,
    InventoryError,
    OlladistError,
    Problem,
    Unreachable,
)
from olladist.output.failures import error_block, interrupted, report
from tests.output.golden import assert_golden, drawn

EXPECTED = Path(__file__).parent / "expected"


def failed() -> dict[str, HostError]:
    errors = [
        Unreachable(
            "gpu1", "connecting", "no answer from 198.51.100.11 port 22 within 10 s", hint="is the machine on?"
        ),
        CommandFailed(
            "gpu2",
            "installing Ollama 0.17.4",
            "tar -xf ollama.tar\nmv a b",
            2,
            "tar: short read\ntar: Error is not recoverable: exiting now\n",
            hint="run `olladist up` again",
        ),
        CommandFailed(
            "gpu3",
            "installing Ollama 0.17.4",
            "tar -xf ollama.tar\nmv a b",
            2,
            "tar: short read\ntar: Error is not recoverable: exiting now\n",
            hint="run `olladist up` again",
        ),
        HostKeyRefused(
            "gpu9", "connecting", "the host key has changed", hint="look at line 3 of known_hosts\nthen ask around"
        ),
    ]
    return {error.host: error for error in errors}


def test_a_report_names_each_host_with_its_command_and_hint() -> None:
    """Every failed host stands there with cause, command, stderr and next step; hosts that failed alike stand together."""
    assert_golden(EXPECTED / "report.txt", drawn(report(failed(), 12)))


def test_a_verbose_report_shows_the_whole_command() -> None:
    """Every line of it, and all of its stderr."""
    text = drawn(report(failed(), 12, whole=True))

    assert "    command: tar -xf ollama.tar\n    command: mv a b\n    stderr: tar: short read\n" in text


def test_an_error_ends_with_its_hint() -> None:
    """`error: …`, a blank line, `hint: …`."""
    text = drawn(error_block(OlladistError("no inventory\n  ./inventory.toml is not there", hint="olladist init")))

    assert text == "error: no inventory\n    ./inventory.toml is not there\n\nhint: olladist init\n"


def test_an_inventory_error_shows_every_problem_with_its_line() -> None:
    """All problems at once, each on a line that an editor can jump to."""
    problems = (Problem(3, "hosts.gpu1.usr", "unknown key", "did you mean user?"), Problem(9, "", "not TOML"))

    text = drawn(error_block(InventoryError("inventory.toml", problems)))

    assert text.splitlines() == [
        "error: inventory.toml has 2 problems",
        "  inventory.toml:3: hosts.gpu1.usr: unknown key (did you mean user?)",
        "  inventory.toml:9: not TOML",
    ]


def test_an_interrupted_command_says_what_was_under_way() -> None:
    """Ctrl-C names each host and what it was doing, and how to go on."""
    text = drawn(interrupted({"gpu1": "Install Ollama 0.17.4"}))

    assert text.splitlines() == [
        "interrupted",
        "  gpu1: Install Ollama 0.17.4",
        "",
        "hint: run the same command again: it finds out what is done and does the rest",
    ]
