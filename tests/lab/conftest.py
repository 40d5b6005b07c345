"""Real hosts for the lab tests. Each test file names its own hosts, so that files run side by side."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.conformance import servers
from tests.lab.machines import OLLAMA, RELEASE, Hosts, Operator


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    machines = Hosts()
    yield machines
    if machines.booted:
        machines.down(*machines.booted)


@pytest.fixture(scope="session")
def ollama_release() -> Path:
    """The tarball of a real Ollama 0.17.4."""
    return RELEASE


@pytest.fixture(scope="session")
def ollama_binary() -> Path:
    """The `ollama` command of a real Ollama 0.17.4."""
    return OLLAMA


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    """A person with an empty home directory who has the lab's key."""
    home = tmp_path / "operator"
    home.mkdir()
    yield Operator(home)
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Pair]:
    """A gateway with two real Ollamas, and the same Ollama to be asked directly."""
    with servers.pair(tmp_path_factory.mktemp("pair")) as made:
        yield made
