"""Real hosts for the lab tests. Each test file names its own hosts, so that files run side by side."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.conformance import servers
from tests.lab.conformance.registry import registry
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


@pytest.fixture
def sides(pair: servers.Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[servers.Side, servers.Side]]:
    """Both as clients have them: the one Ollama first, then the gateway; each with a home and a registry of its own."""
    servers.unload(pair)
    folder = tmp_path_factory.mktemp("sides")
    with registry(folder / "one") as one, registry(folder / "other") as other:
        names = {**pair.names, one: "REGISTRY", other: "REGISTRY"}
        made = []
        for server, address in ((pair.direct, one), (pair.gateway, other)):
            home = folder / f"home{server.port}"
            home.mkdir()
            made.append(servers.Side(server, address, home, {str(home): "HOME", **names}))
        yield made[0], made[1]
