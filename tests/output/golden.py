"""Whole outputs, kept as files and compared word for word. GOLDEN=write writes them anew, for a look at the diff."""

import os
from io import StringIO
from pathlib import Path

from rich.console import RenderableType

from olladist.output.screen import Screen, piped


def assert_golden(path: Path, text: str) -> None:
    if os.environ.get("GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    assert text == path.read_text()


def drawn(*blocks: RenderableType) -> str:
    """What reaches a pipe."""
    out = StringIO()
    Screen(piped(out), piped(StringIO())).show(*blocks)
    return out.getvalue()
