"""docs/reference/differences.md lists what the comparison with a real Ollama leaves out, and the guide shows what is tested."""

import re
from pathlib import Path

from tests.lab.conformance.differences import TITLES

ROOT = Path(__file__).parent.parent.parent


def test_every_difference_is_documented() -> None:
    """Whatever the comparison expects to differ is a row of the page."""
    page = (ROOT / "docs/reference/differences.md").read_text()

    assert [title for title in TITLES if f"| {title} |" not in page] == []


def test_every_client_of_the_guide_is_tested() -> None:
    """A library that the guide shows is among those that are run unmodified."""
    pinned = (ROOT / "tests/lab/conformance/clients/requirements.txt").read_text()
    shown = re.findall(r"^(?:import|from) (\w+)", (ROOT / "docs/guides/clients.md").read_text(), re.MULTILINE)

    assert {name for name in shown if f"{name.replace('_', '-')}==" not in pinned} == set()
