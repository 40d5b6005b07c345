"""The reference is made from the program, and is current."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import typer

from olladist.cli.app import app

DOCS = Path(__file__).parent.parent.parent / "docs"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_command_line_reference_is_current(generate: ModuleType) -> None:
    """If not: `python docs/generate.py`."""
    assert (DOCS / "reference/cli.md").read_text() == generate.cli_reference()


def test_the_json_reference_is_current(generate: ModuleType) -> None:
    """A change here is a change of a promise: add fields, and never take one away within a version."""
    assert (DOCS / "reference/json.md").read_text() == generate.json_reference()


def test_the_metrics_reference_is_current(generate: ModuleType) -> None:
    """Made from the list of metrics, which a test holds against what a scrape gives."""
    assert (DOCS / "reference/metrics.md").read_text() == generate.metrics_reference()


def test_the_schemas_are_current(generate: ModuleType) -> None:
    """Of every document that the gateway answers; a field is never taken away within a version."""
    for name, struct in generate.SCHEMAS.items():
        assert (DOCS / f"reference/{name}.schema.json").read_text() == generate.schema(struct)


def test_every_command_stands_in_the_reference(generate: ModuleType) -> None:
    """By its full name, as a heading."""
    text = (DOCS / "reference/cli.md").read_text()
    names = [name for name, _ in generate.commands(typer.main.get_command(app), ())]

    assert [name for name in names if f"\n## {name}\n" not in text] == []
    assert len(names) >= 16
