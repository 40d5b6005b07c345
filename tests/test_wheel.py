"""What a wheel is built from: compiled code where the machine can, the same sources where it cannot."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from hatch_build import Compiled

ROOT = Path(__file__).parent.parent
HOOK = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"][
    "custom"
]
# One that needs no other, for each takes its time.
SMALL = {"compiled": ["olladist/scheduling/free.py"], "interpreted": []}


class Builder:
    """What hatchling calls its application."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def display_warning(self, message: str) -> None:
        self.warnings.append(message)


def begin(version: str, place: Path) -> tuple[dict[str, Any], Builder]:
    """What a build is told to put into the wheel, and what the user sees of it."""
    said, builder = {"force_include": dict[str, str]()}, Builder()
    application: Any = builder
    unused: Any = None
    Compiled(str(ROOT), SMALL, unused, unused, str(place), "wheel", application).initialize(version, said)
    return said, builder


def test_without_a_compiler_the_wheel_is_of_python_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same sources for any machine; the user is told, and why."""
    monkeypatch.setenv("CC", "/nowhere/cc")

    said, builder = begin("standard", tmp_path)

    assert said == {"force_include": {}}
    assert "not compiled" in builder.warnings[0]
    assert "/nowhere/cc" in capsys.readouterr().out


def test_an_editable_install_is_never_compiled(tmp_path: Path) -> None:
    """What is edited is what runs."""
    said, builder = begin("editable", tmp_path)

    assert (said, builder.warnings) == ({"force_include": {}}, [])


def test_what_is_to_be_compiled_is_there() -> None:
    """A module that was renamed would be interpreted, and nobody would notice."""
    found = {path.name for pattern in HOOK["compiled"] for path in ROOT.glob(pattern)}

    assert all(list(ROOT.glob(pattern)) for pattern in HOOK["compiled"])
    assert found.issuperset(HOOK["interpreted"])
