"""The main job on four real hosts: up, models sync, status, proxy, a streamed chat, and a host that dies under load.

gpu11 logs in as root, gpu12 as ops (sudo), gpu13 as plain (no sudo: systemd --user), box14 runs no systemd (detached).
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import ollama
import pytest

from tests.lab.machines import KEY, Hosts, Operator, address
from tests.lab.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(500)]

USERS = {"gpu11": "root", "gpu12": "ops", "gpu13": "plain", "box14": "root"}
SENTENCE = "Rayleigh scattering makes the sky look blue at noon."
BIG_SENTENCE = "Large models take longer than small ones to copy."
INVENTORY = f"""
[fleet]
name = "lab"
ollama = "{{release}}"

[defaults]
identity = "{KEY}"
host_keys = "accept-new"
env = {{ OLLAMA_NUM_PARALLEL = 2, OLLAMA_KEEP_ALIVE = "10m" }}

[models."lab/tiny:v1"]
source = "Modelfile.tiny"
on = "*"

[models."lab/big:v1"]
source = "Modelfile.big"
on = ["gpu11", "gpu12", "box14"]

[gateway]
listen = "127.0.0.1:0"
"""


@dataclass
class Fleet:
    operator: Operator
    hosts: Hosts

    @contextmanager
    def gateway(self, *options: str) -> Iterator[str]:
        """A running `olladist proxy`; its address."""
        log = self.operator.home / "proxy.log"
        process = self.operator.start("olladist", "proxy", *options, log=log)
        try:
            wait_until(
                lambda: b"listening on http://" in log.read_bytes() or process.poll() is not None, "the gateway listens"
            )
            assert process.poll() is None, log.read_text()
            url = next(word for word in log.read_text().split() if word.startswith("http://127.0.0.1:"))
            yield url.rstrip(",.")
        finally:
            process.terminate()
            process.wait(30)

    def nodes(self, url: str) -> dict[str, dict[str, object]]:
        answer = httpx.get(f"{url}/api/distributed/nodes", timeout=5).json()
        return {node["name"]: node for node in answer["nodes"]}

    def wait_for(self, url: str, condition: Callable[[dict[str, dict[str, object]]], bool], what: str) -> None:
        wait_until(lambda: condition(self.nodes(url)), what, seconds=40)


@pytest.fixture(scope="module")
def fleet(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory, ollama_release: Path) -> Fleet:
    hosts.up(*USERS)
    # Without it systemd --user ends with the login, and olladist rather runs the server without systemd.
    hosts.ssh("root", "gpu13", "loginctl enable-linger plain")
    operator = Operator(tmp_path_factory.mktemp("operator"))
    entries = [f'\n[hosts.{name}]\naddress = "{address(name)}"\nuser = "{user}"\n' for name, user in USERS.items()]
    (operator.home / "inventory.toml").write_text(
        INVENTORY.replace("{release}", str(ollama_release)) + "".join(entries)
    )
    maker = str(Path(__file__).parent / "tiny_gguf.py")
    for name, sentence, size in (("tiny", SENTENCE, "0.5"), ("big", BIG_SENTENCE, "200")):
        operator.run("python", maker, f"{name}.gguf", "--say", sentence, "--mb", size)
        (operator.home / f"Modelfile.{name}").write_text(f"FROM ./{name}.gguf\nPARAMETER num_thread 1\n")
    operator.olladist("up", "--yes", timeout=240)
    operator.olladist("models", "sync", "--yes", timeout=240)
    return Fleet(operator, hosts)


def test_a_second_up_and_a_second_sync_change_nothing(fleet: Fleet) -> None:
    """What is as declared is left alone: both plans are empty."""
    plan = json.loads(fleet.operator.olladist("--json", "plan"))
    up = json.loads(fleet.operator.olladist("--json", "up", "--yes"))
    sync = json.loads(fleet.operator.olladist("--json", "models", "sync", "--yes"))

    assert [host["steps"] for host in plan["hosts"]] == [[], [], [], []]
    assert [host["steps"] for host in up["hosts"]] == [[], [], [], []]
    assert sync["steps"] == []


def test_each_kind_of_host_runs_the_service_that_suits_it(fleet: Fleet) -> None:
    """System service with root or sudo, systemd --user without, a supervised process where no systemd runs."""
    hosts = {host["name"]: host for host in json.loads(fleet.operator.olladist("--json", "status"))["hosts"]}

    assert {name: host["service"] for name, host in hosts.items()} == {
        "gpu11": "system", "gpu12": "system", "gpu13": "user", "box14": "detached",
    }  # fmt: skip
    assert "active" in fleet.hosts.ssh("root", "gpu12", "systemctl is-active ollama")
    assert "127.0.0.1:11434" in fleet.hosts.ssh("root", "gpu11", "ss -ltn")


def test_an_unmodified_python_client_streams_the_models_words(fleet: Fleet) -> None:
    """The ollama package chats through the gateway, streamed, and hears what the model says."""
    with fleet.gateway() as url:
        fleet.wait_for(url, lambda nodes: all(node["state"] == "up" for node in nodes.values()), "all hosts are up")
        with ollama.Client(url) as client:
            messages = [{"role": "user", "content": "Why is the sky blue?"}]
            chunks = list(client.chat("lab/tiny:v1", messages, stream=True))

    assert "".join(chunk.message.content or "" for chunk in chunks).strip() == SENTENCE
    assert len(chunks) > 5
    assert chunks[-1].done


def test_the_ollama_command_works_unchanged(fleet: Fleet) -> None:
    """`ollama list`, `ps`, `show` and `run` speak to the gateway as to one Ollama."""
    with fleet.gateway() as url:
        fleet.wait_for(url, lambda nodes: all(node["state"] == "up" for node in nodes.values()), "all hosts are up")

        def cli(*words: str) -> str:
            done = fleet.operator.run("ollama", *words, OLLAMA_HOST=url)
            assert done.returncode == 0, done.stderr
            return done.stdout

        answer = cli("run", "lab/big:v1", "Hello")
        listed, shown, loaded = cli("list"), cli("show", "lab/tiny:v1"), cli("ps")

    assert answer.split() == BIG_SENTENCE.split()
    assert "lab/tiny:v1" in listed
    assert "lab/big:v1" in listed
    assert "llama" in shown
    assert "lab/big:v1" in loaded


def test_a_host_that_dies_under_load_fails_nothing_that_had_not_begun_to_stream(fleet: Fleet) -> None:
    """With one host's plug pulled, every request that had not begun to stream is served by another; `up` mends it."""
    with fleet.gateway("--strategy", "round-robin") as url:
        fleet.wait_for(url, lambda nodes: all(node["state"] == "up" for node in nodes.values()), "all hosts are up")
        results = asyncio.run(load(url, requests=300, at_once=12, after=60, event=lambda: fleet.hosts.kill("gpu12")))
        fleet.wait_for(url, lambda nodes: nodes["gpu12"]["state"] == "down", "gpu12 is known to be down")
        fleet.hosts.boot("gpu12")
        fleet.wait_for(url, lambda nodes: nodes["gpu12"]["state"] == "up", "gpu12 is back")

    assert [result for result in results if not result.began and result.problem] == []
    assert sum(result.text == SENTENCE for result in results) >= 300 - 12
    assert {result.node for result in results} == set(USERS)


@dataclass
class Result:
    began: bool = False
    text: str = ""
    node: str = ""
    problem: str = ""


async def load(url: str, requests: int, at_once: int, after: int, event: Callable[[], None]) -> list[Result]:
    """`requests` streamed chats, `at_once` at a time; `event` happens once `after` of them are done."""
    results: list[Result] = []
    left = iter(range(requests))

    async def one(client: httpx.AsyncClient) -> Result:
        result = Result()
        body = {"model": "lab/tiny:v1", "messages": [{"role": "user", "content": "Why?"}]}
        try:
            async with client.stream("POST", f"{url}/api/chat", json=body) as response:
                result.node = response.headers.get("x-ollama-node", "")
                if response.status_code != 200:
                    result.problem = f"{response.status_code} {(await response.aread())[:200]!r}"
                    return result
                async for line in response.aiter_lines():
                    result.began = True
                    piece = json.loads(line)
                    result.problem = result.problem or piece.get("error", "")
                    result.text += piece.get("message", {}).get("content", "")
        except httpx.HTTPError as error:
            result.problem = repr(error)
        result.text = result.text.strip()
        return result

    async def client_loop(client: httpx.AsyncClient) -> None:
        for _ in left:
            results.append(await one(client))
            if len(results) == after:
                await asyncio.to_thread(event)

    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=at_once)) as client:
        await asyncio.gather(*(client_loop(client) for _ in range(at_once)))
    return results
