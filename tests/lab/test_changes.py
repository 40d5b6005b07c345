"""Changes of models over two real Ollamas, one of which is switched off in the middle, and comes back."""

import http.client
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from olladist.ollama.digests import digest_of
from olladist.sim import gguf
from olladist.sim.hosts import ThrowawayHosts
from tests.lab.conformance.registry import registry
from tests.lab.conformance.servers import Server, create_models, gateway, ollama, store
from tests.lab.conformance.wire import Request, ask
from tests.lab.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]


class Fleet:
    """Two hosts with sshd, each with a real Ollama that can be switched off and on."""

    def __init__(self, folder: Path, hosts: ThrowawayHosts) -> None:
        self.folder = folder
        self.hosts = hosts
        self.gateway = Server(0)
        self.nodes = {name: Server(host.instances[0]) for name, host in hosts.hosts.items()}
        self._running: dict[str, ExitStack] = {}

    def on(self, name: str) -> None:
        stack = self._running[name] = ExitStack()
        host = self.hosts.hosts[name]
        stack.enter_context(ollama(host.home, host.instances[0], self.folder / "place"))

    def off(self, *names: str) -> None:
        for name in names or tuple(self._running):
            self._running.pop(name).close()

    def state(self, name: str) -> str:
        nodes = json.loads(ask(self.gateway.port, Request("GET", "/api/distributed/nodes")).body)["nodes"]
        return str(next(node["state"] for node in nodes if node["name"] == name))

    def wait_state(self, name: str, state: str) -> None:
        wait_until(lambda: self.state(name) == state, f"{name} to be {state}", 30)


def tags(server: Server) -> dict[str, str]:
    models = json.loads(ask(server.port, Request("GET", "/api/tags")).body)["models"]
    return {model["name"]: model["digest"] for model in models}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        hosts = stack.enter_context(ThrowawayHosts(tmp_path / "hosts", ("gpu1", "gpu2")))
        made = Fleet(tmp_path, hosts)
        stack.callback(made.off)
        for name in hosts.hosts:
            made.on(name)
        create_models(made.nodes["gpu1"], tmp_path)
        made.off("gpu2")
        shutil.copytree(store(hosts.hosts["gpu1"].home), store(hosts.hosts["gpu2"].home), dirs_exist_ok=True)
        made.on("gpu2")
        made.gateway = stack.enter_context(gateway(tmp_path / "gateway", hosts, 2))
        yield made


def lines(server: Server, path: str, body: Any, heard: Callable[[dict[str, Any]], None]) -> list[dict[str, Any]]:
    """All lines of a stream; `heard` is called with each as it comes."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    connection.request("POST", path, json.dumps(body))
    answer = connection.getresponse()
    assert answer.status == 200
    found = []
    while line := answer.readline():
        found.append(json.loads(line))
        heard(found[-1])
    connection.close()
    return found


def test_a_pull_outlives_a_host_that_dies_in_the_middle(fleet: Fleet, tmp_path: Path) -> None:
    """The stream goes on to its success and names the host; when it is back the model is copied to it, with the same digest."""
    with registry(tmp_path / "registry") as address:
        model = f"{address}/library/big:latest"
        publish(fleet.nodes["gpu1"], model, tmp_path)
        killed: list[str] = []

        def kill(line: dict[str, Any]) -> None:
            if line.get("completed", 0) > 0 and not killed:
                killed.append("gpu2")
                fleet.off("gpu2")

        body = {"model": f"http://{model}", "insecure": True}
        told = lines(fleet.gateway, "/api/pull", body, kill)

    assert [line["status"] for line in told if "digest" not in line] == [
        "pulling manifest",
        "verifying sha256 digest",
        "writing manifest",
        "not done on gpu2: closed the connection before its answer was whole; it gets the model when it is back",
        "success",
    ]
    for digest in {line["digest"] for line in told if "digest" in line}:
        bar = [line for line in told if line.get("digest") == digest]
        done = [line.get("completed", 0) for line in bar]
        assert len({line["total"] for line in bar}) == 1
        assert (done, done[-1]) == (sorted(done), bar[0]["total"])
    assert model in tags(fleet.gateway)
    fleet.wait_state("gpu2", "down")
    fleet.on("gpu2")
    wait_until(lambda: tags(fleet.nodes["gpu2"]).get(model) == tags(fleet.nodes["gpu1"])[model], "the copy", 60)


def test_a_host_that_was_away_does_what_was_done_meanwhile(fleet: Fleet) -> None:
    """A delete and a copy are made up for before its models are listed again."""
    fleet.off("gpu2")
    fleet.wait_state("gpu2", "down")
    delete = ask(fleet.gateway.port, Request("DELETE", "/api/delete", {"model": "sky2"}))
    assert (delete.status, delete.body) == (200, b"")
    copy = ask(fleet.gateway.port, Request("POST", "/api/copy", {"source": "sky", "destination": "heaven"}))
    assert (copy.status, copy.body) == (200, b"")
    assert set(tags(fleet.gateway)) == {"sky:latest", "heaven:latest"}

    fleet.on("gpu2")
    while fleet.state("gpu2") != "up":
        assert set(tags(fleet.gateway)) == {"sky:latest", "heaven:latest"}
    assert set(tags(fleet.gateway)) == {"sky:latest", "heaven:latest"}
    wait_until(lambda: tags(fleet.nodes["gpu2"]) == tags(fleet.nodes["gpu1"]), "the same on both", 30)


def publish(server: Server, model: str, folder: Path) -> None:
    """Puts a model of 300 MB into the registry, and leaves none of it here."""
    gguf.write(folder / "big.gguf", "Big models take long.", megabytes=300)
    content = (folder / "big.gguf").read_bytes()
    digest = digest_of(content)
    for method, path, body in (
        ("POST", f"/api/blobs/{digest}", content),
        ("POST", "/api/create", {"model": model, "files": {"big.gguf": digest}, "stream": False}),
        ("POST", "/api/push", {"model": model, "insecure": True, "stream": False}),
        ("DELETE", "/api/delete", {"model": model}),
    ):
        answer = ask(server.port, Request(method, path, body))
        assert answer.status in {200, 201}, answer
