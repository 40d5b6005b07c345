"""A hot model and a cold one on a real Ollama that has room for one: starved when asked directly, served through the gateway."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from olladist.ollama.digests import digest_of
from olladist.sim import gguf
from olladist.sim.hosts import free_ports, listens
from tests.lab.conformance.servers import Server, environ, running
from tests.lab.conformance.wire import Request, ask
from tests.lab.machines import OLLAMA
from tests.lab.waiting import wait_until

pytestmark = pytest.mark.lab

CLIENTS = 4
# The hot model is answered so many times while the cold one waits: as long as anybody cares to watch.
ENOUGH = 30
# What the gateway needs at most: its bound is 20 loads, and at least 10 s.
TOO_MANY = 2000
SETTINGS = {"OLLAMA_MAX_LOADED_MODELS": "1", "OLLAMA_NUM_PARALLEL": "2"}
SENTENCE = " ".join(f"word{number}" for number in range(40))


def _env() -> str:
    return ", ".join(f"{name} = {value}" for name, value in SETTINGS.items())


@pytest.fixture
def one_ollama(tmp_path: Path) -> Iterator[Server]:
    """With `hot` and `cold`, two weights."""
    (port,) = free_ports(1)
    env = {**environ(tmp_path), **SETTINGS, "OLLAMA_HOST": f"127.0.0.1:{port}"}
    with running([str(OLLAMA), "serve"], tmp_path / "ollama.log", env) as process:
        wait_until(lambda: listens(port) or process.poll() is not None, "an Ollama that listens", 60)
        for name in ("hot", "cold"):
            path = tmp_path / f"{name}.gguf"
            gguf.write(path, f"{name} {SENTENCE}")
            content = path.read_bytes()
            digest = digest_of(content)
            assert ask(port, Request("POST", f"/api/blobs/{digest}", content)).status == 201
            body = {"model": name, "files": {"m.gguf": digest}, "parameters": {"num_thread": 1}, "stream": False}
            assert ask(port, Request("POST", "/api/create", body)).status == 200
        yield Server(port)


@contextmanager
def gateway(tmp_path: Path, behind: Server) -> Iterator[Server]:
    text = f'[hosts.here]\nconnection = "local"\ninstances = [{{ port = {behind.port}, env = {{ {_env()} }} }}]\n'
    (tmp_path / "inventory.toml").write_text(text)
    log = tmp_path / "gateway.log"
    words = [sys.executable, "-m", "olladist", "-i", str(tmp_path / "inventory.toml")]
    with running([*words, "proxy", "--listen", "127.0.0.1:0"], log, environ(tmp_path)) as process:
        wait_until(
            lambda: "listening on" in log.read_text() or process.poll() is not None, "a gateway that listens", 60
        )
        assert process.poll() is None, log.read_text()
        port = int(log.read_text().partition("listening on ")[2].split()[0].rpartition(":")[2])
        wait_until(lambda: ask(port, Request("GET", "/readyz")).status == 200, "a node that is up")
        yield Server(port)


class Clients:
    """Four in a closed loop on the hot model, and one that asks for the cold one once they are under way."""

    def __init__(self, server: Server) -> None:
        self.answers = 0
        self.problems: list[str] = []
        self.cold = threading.Event()
        self._stop = threading.Event()
        self._server = server
        self._threads = [threading.Thread(target=self._hot) for _ in range(CLIENTS)]

    def run(self, until: Callable[[], bool]) -> None:
        """Until `until` holds; then the hot ones stop, and the cold one is waited for."""
        for thread in self._threads:
            thread.start()
        wait_until(lambda: self.answers >= CLIENTS, "the hot model to be under way", 60)
        asking = threading.Thread(target=self._ask_cold)
        asking.start()
        try:
            wait_until(lambda: until() or bool(self.problems), "the end of the watch", 240)
        finally:
            self._stop.set()
            for thread in (*self._threads, asking):
                thread.join(60)
        assert self.problems == []

    def _hot(self) -> None:
        while not self._stop.is_set():
            self._ask("hot")
            self.answers += 1

    def _ask_cold(self) -> None:
        self._ask("cold")
        self.cold.set()

    def _ask(self, model: str) -> None:
        raw = ask(self._server.port, Request("POST", "/api/generate", {"model": model, "prompt": "x", "stream": False}))
        if raw.status != 200 or SENTENCE[:10].encode() not in raw.body:
            self.problems.append(f"{model}: {raw.status} {raw.body[:200]!r}")
            self._stop.set()


def test_an_ollama_by_itself_starves_the_cold_model(one_ollama: Server) -> None:
    """For as long as the hot one stays hot; it is served as soon as that ends."""
    clients = Clients(one_ollama)
    starved = False

    def watched() -> bool:
        nonlocal starved
        starved = clients.answers >= ENOUGH and not clients.cold.is_set()
        return starved or clients.cold.is_set()

    clients.run(watched)

    assert starved
    assert clients.cold.is_set()


def test_the_gateway_serves_both(one_ollama: Server, tmp_path: Path) -> None:
    """The cold one is answered while the hot one stays hot, and the hot one goes on."""
    with gateway(tmp_path, one_ollama) as server:
        clients = Clients(server)
        clients.run(lambda: clients.cold.is_set() or clients.answers >= TOO_MANY)
        seen = clients.answers

    assert clients.cold.is_set()
    assert seen < TOO_MANY
