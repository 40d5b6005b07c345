import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """Short: a socket's path has 108 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="olladist-") as path:
        yield Path(path)
