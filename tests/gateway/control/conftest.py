import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.control.machines import Machines, machines


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """Short: a socket's path has 108 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="olladist-") as path:
        yield Path(path)


@pytest.fixture(scope="module")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    with machines(tmp_path_factory.mktemp("machines"), "gpu1", "gpu2", "gpu3") as running:
        yield running


@pytest.fixture
def fleet(_running: Machines) -> Machines:
    """Three hosts that run and have no model."""
    for name in _running.names:
        if not _running.runs(name):
            _running.revive(name)
    _running.clear()
    return _running
