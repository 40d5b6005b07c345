"""The operator's shell."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from olladist.demo.shell import Shell
from olladist.demo.stage import Stage, set_up


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with set_up(tmp_path, simulated=True) as made:
        yield made


def test_a_command_is_shown_with_its_output(stage: Stage) -> None:
    """The command line as somebody would type it, then what it printed, indented; status and output are kept."""
    shown: list[str] = []
    ran = Shell(stage, shown.append).olladist("--version")

    assert ran.status == 0
    assert shown[0] == "\n$ olladist --version"
    assert shown[1:] == ["    " + line for line in ran.output.splitlines()]
    assert ran.output.startswith("olladist ")


def test_long_names_of_temporary_folders_are_not_shown(stage: Stage) -> None:
    """A host's home is ~, the operator's is where the commands run."""
    host = stage.hosts.hosts["gpu2"]

    assert stage.shortened(f"write {host.home}/.local/x from {stage.home}/models/m") == "write ~/.local/x from models/m"
