"""The documentation keeps its promises: links lead somewhere, and what it shows can be run."""

import re
import tomllib
from pathlib import Path

import pytest

from olladist.inventory.parse import parse

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file that is there."""
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text())

    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_toml_examples_are_toml(page: Path) -> None:
    """Every TOML block parses."""
    for block in re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        tomllib.loads(block)


def test_the_inventory_of_the_readme_is_one() -> None:
    """The README's inventory is accepted as it stands."""
    readme = (ROOT / "README.md").read_text()
    block = re.search(r"^```toml\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)

    assert block
    assert set(parse(block[1], ROOT / "inventory.toml").hosts) == {"gpu1", "gpu2", "here"}
