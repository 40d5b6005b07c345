"""A model whose requests crowd each other on one real Ollama, while another has nothing to do."""

import json
import threading
from collections import Counter
from pathlib import Path
from typing import Self

import pytest

from tests.lab.conformance.servers import Server
from tests.lab.conformance.wire import Request, ask
from tests.lab.local import gateway, ollama
from tests.lab.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

SETTINGS = {"OLLAMA_NUM_PARALLEL": "8"}
SENTENCE = " ".join(f"word{number}" for number in range(200))
CLIENTS = 4
OPTIONS = {"num_ctx": 2048}


class Crowd:
    """Clients in a closed loop; `nodes` counts who has answered them."""

    def __init__(self, server: Server) -> None:
        self.nodes: Counter[str] = Counter()
        self.problems: list[str] = []
        self._server = server
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask_on) for _ in range(CLIENTS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _ask_on(self) -> None:
        while not self._stop.is_set():
            self.ask()

    def ask(self) -> int:
        body = {"model": "tiny", "prompt": "x", "stream": False, "options": OPTIONS}
        raw = ask(self._server.port, Request("POST", "/api/generate", body))
        self.nodes[dict(raw.headers).get("x-ollama-node", "")] += 1
        if raw.status != 200 or SENTENCE[:10].encode() not in raw.body:
            self.problems.append(f"{raw.status} {raw.body[:200]!r}")
        return raw.status


def test_another_ollama_loads_the_model_and_takes_its_part(tmp_path: Path) -> None:
    """With the options that the requests have, so that none of them loads it anew; nobody has had to wait for that."""
    with (
        ollama(tmp_path / "one", SETTINGS, {"tiny": SENTENCE}) as one,
        ollama(tmp_path / "two", SETTINGS, {"tiny": SENTENCE}) as two,
        gateway(tmp_path, [one, two], SETTINGS) as server,
    ):
        assert Crowd(server).ask() == 200, "alone, for the first ones of many would wait, and load it on both"
        with Crowd(server) as crowd:
            wait_until(lambda: len(crowd.nodes) == 2 or bool(crowd.problems), "answers of both", 120)
            wait_until(lambda: min(crowd.nodes.values()) >= 10 or bool(crowd.problems), "both to go on answering", 120)
        rows = [json.loads(ask(each.port, Request("GET", "/api/ps")).body)["models"] for each in (one, two)]
        metrics = ask(server.port, Request("GET", "/metrics")).body

    assert crowd.problems == []
    assert [[(row["name"], row["context_length"]) for row in each] for each in rows] == [
        [("tiny:latest", OPTIONS["num_ctx"])]
    ] * 2
    assert b'olladist_preloads_total{result="loaded"} 1.0' in metrics
