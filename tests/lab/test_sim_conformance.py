"""The simulated Ollama beside a real one: the same requests in the same order, the same answers but for times and numbers.

What is made for the gateway and for olladist's own commands to see is compared in full: status, content type, the headers that
mean something, and every byte of the body once it is normalised. The requests are those that the gateway is held to as well.
"""

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from olladist.sim.hosts import free_ports, listens
from tests.lab.conformance.readable import VARIES, Answer, readable, unlike
from tests.lab.conformance.servers import Server, create_models, environ, ollama, running, store
from tests.lab.conformance.tables import compatible, front, inference, library
from tests.lab.conformance.wire import Request, ask
from tests.lab.waiting import wait_until

pytestmark = pytest.mark.lab

REQUESTS = [
    *(front.FRONT + front.DOORS + inference.SYNTAX + inference.GENERATE + inference.KEEPING + inference.CHAT),
    *(inference.EMBED + library.LIBRARY + library.CREATE + compatible.OPENAI + compatible.ANTHROPIC),
]
# Sizes in memory are the runner's business; embeddings of a chain model are 8 before they are normalised.
ROUGHLY = re.compile(
    VARIES.pattern
    + r'|"size":\d+,"digest":"[0-9a-f]{64}"|"digest":"[0-9a-f]{64}"|"embedding":\[[0-9.e-]+(?:,0(?:\.0)?){63}\]'
)


@contextmanager
def simulated_ollama(home: Path) -> Iterator[Server]:
    (port,) = free_ports(1)
    home.mkdir()
    env = environ(home) | {"OLLAMA_HOST": f"127.0.0.1:{port}", "SIM_TOKENS_PER_SECOND": "1000"}
    with running([sys.executable, "-m", "olladist.sim.ollama", "serve"], home / "log", env):
        wait_until(lambda: listens(port), "a simulated Ollama that listens")
        yield Server(port)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("both")


@pytest.fixture(scope="module")
def real(folder: Path) -> Iterator[Server]:
    with ollama(folder / "real", free_ports(1)[0], folder / "place") as server:
        create_models(server, folder)
        yield server


@pytest.fixture(scope="module")
def simulated(folder: Path) -> Iterator[Server]:
    with simulated_ollama(folder / "simulated") as server:
        create_models(server, folder)
        yield server


def both(real: Server, simulated: Server, names: dict[str, str], request: Request) -> tuple[Answer, Answer]:
    """What the two answer; a real Ollama unloads in the background, so what is loaded is asked until that is over."""
    deadline = time.monotonic() + 10
    while True:
        want, got = (readable(ask(server.port, request), names, ROUGHLY) for server in (real, simulated))
        if want == got or request.path != "/api/ps" or time.monotonic() > deadline:
            return want, got


def test_the_same_request_has_the_same_answer(real: Server, simulated: Server, folder: Path) -> None:
    """Status, content type, headers and body are those of a real Ollama 0.17.4, but for times, sizes and random numbers."""
    names = {str(store(folder / "place")): "STORE", str(store(folder / "simulated")): "STORE"}
    different = []
    for request in REQUESTS:
        want, got = both(real, simulated, names, request)
        if found := unlike(want, got):
            different.append(f"  {request}\n{found}")

    assert not different, "\n".join([f"{len(different)} of {len(REQUESTS)} differ", *different])
