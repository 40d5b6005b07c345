"""A hot model and a cold one on a real Ollama that has room for one: starved when asked directly, served through the gateway."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.conformance.servers import Server
from tests.lab.conformance.wire import Request, ask
from tests.lab.local import gateway, ollama
from tests.lab.waiting import wait_until

pytestmark = pytest.mark.lab

CLIENTS = 4
# The hot model is answered so many times while the cold one waits: as long as anybody cares to watch.
ENOUGH = 30
# What the gateway needs at most: its bound is 20 loads, and at least 10 s.
TOO_MANY = 2000
SETTINGS = {"OLLAMA_MAX_LOADED_MODELS": "1", "OLLAMA_NUM_PARALLEL": "2"}
SENTENCE = " ".join(f"word{number}" for number in range(40))


@pytest.fixture
def one_ollama(tmp_path: Path) -> Iterator[Server]:
    """With `hot` and `cold`, two weights."""
    sentences = {name: f"{name} {SENTENCE}" for name in ("hot", "cold")}
    with ollama(tmp_path / "ollama", SETTINGS, sentences) as server:
        yield server


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
    with gateway(tmp_path, [one_ollama], SETTINGS) as server:
        clients = Clients(server)
        clients.run(lambda: clients.cold.is_set() or clients.answers >= TOO_MANY)
        seen = clients.answers

    assert clients.cold.is_set()
    assert seen < TOO_MANY
