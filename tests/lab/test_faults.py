"""What no scripted backend can do: a real host loses its power, or its link, in the middle of answers of every protocol."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.lab.machines import KEY, Hosts, Operator, address
from tests.lab.test_main_job import Fleet
from tests.lab.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

NAMES = ("gpu91", "gpu92")
INVENTORY = f"""
[fleet]
name = "faults"
ollama = "{{release}}"

[defaults]
identity = "{KEY}"
host_keys = "accept-new"
env = {{ OLLAMA_NUM_PARALLEL = 4, OLLAMA_KEEP_ALIVE = "10m" }}

[models."lab/slow:v1"]
source = "Modelfile.slow"
on = "*"

[gateway]
listen = "127.0.0.1:0"
strategy = "round-robin"
"""
ASKED: dict[str, dict[str, Any]] = {
    "/api/chat": {"options": {"num_predict": 200}},
    "/v1/chat/completions": {"max_tokens": 200},
    "/v1/responses": {"max_output_tokens": 200, "input": "hi"},
    "/v1/messages": {"max_tokens": 200},
}
# A host that is gone is noticed by its probes (6.3 s) and its stream by SSH or TCP (20 s); twice that for a busy machine.
NOTICED_SECONDS = 45.0


@pytest.fixture(scope="module")
def fleet(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory, ollama_release: Path) -> Fleet:
    hosts.up(*NAMES)
    operator = Operator(tmp_path_factory.mktemp("operator"))
    entries = [f'\n[hosts.{name}]\naddress = "{address(name)}"\nuser = "root"\n' for name in NAMES]
    (operator.home / "inventory.toml").write_text(
        INVENTORY.replace("{release}", str(ollama_release)) + "".join(entries)
    )
    maker = str(Path(__file__).parent / "tiny_gguf.py")
    # Random weights of this size take some 20 ms for a word, whatever the words are.
    operator.run("python", maker, "slow.gguf", "--seed", "7", "--mb", "200")
    (operator.home / "Modelfile.slow").write_text("FROM ./slow.gguf\nPARAMETER num_thread 1\n")
    operator.olladist("up", "--yes", timeout=240)
    operator.olladist("models", "sync", "--yes", timeout=240)
    return Fleet(operator, hosts)


@dataclass
class Answer:
    """A stream as it comes: the node that gives it, its events, and how it ended."""

    path: str
    node: str = ""
    status: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)
    done: bool = False  # as its protocol says
    broken: str = ""  # the connection
    ended_at: float = 0.0

    @property
    def error(self) -> str:
        found = next((event["error"] for event in self.events if "error" in event), "")
        return str(found["message"] if isinstance(found, dict) else found)

    def take(self, line: str) -> None:
        if line.startswith("data: [DONE]"):
            self.done = True
        elif line.startswith(("data: ", "{")):
            event = json.loads(line.removeprefix("data: "))
            self.events.append(event)
            kind = event.get("type", "")
            self.done = self.done or event.get("done", False) or kind in {"message_stop", "response.completed"}


async def read(client: httpx.AsyncClient, answer: Answer) -> None:
    body = {"model": "lab/slow:v1", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    try:
        async with client.stream("POST", answer.path, json=body | ASKED[answer.path]) as response:
            answer.node = response.headers.get("x-ollama-node", "")
            answer.status = response.status_code
            async for line in response.aiter_lines():
                answer.take(line)
    except httpx.HTTPError as error:
        answer.broken = repr(error)
    answer.ended_at = time.monotonic()


async def until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    await asyncio.to_thread(wait_until, condition, what, seconds)


@asynccontextmanager
async def streaming(url: str) -> AsyncIterator[tuple[list[Answer], "asyncio.Future[list[None]]"]]:
    """Two streams of each protocol, so that each host gives some, all under way."""
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        answers = [Answer(path) for path in ASKED for _ in range(2)]
        reading = asyncio.gather(*(read(client, answer) for answer in answers))
        await until(lambda: all(len(answer.events) > 3 for answer in answers), "all streams are under way")
        yield answers, reading
        await reading


@pytest.fixture
def ready(fleet: Fleet) -> Fleet:
    """Both hosts have the model in memory before anything happens."""
    for name in NAMES:
        fleet.hosts.ssh("root", name, "ollama run lab/slow:v1 '' || /usr/local/bin/ollama run lab/slow:v1 ''")
    return fleet


def all_up(nodes: dict[str, dict[str, object]]) -> bool:
    return all(node["state"] == "up" for node in nodes.values())


async def test_a_host_that_is_switched_off_ends_its_streams_with_an_error(ready: Fleet) -> None:
    """Each in its own protocol, naming the host; the other host's go on to their end, and what is asked meanwhile is served by it."""
    with ready.gateway() as url:
        await asyncio.to_thread(ready.wait_for, url, all_up, "both are up")
        async with streaming(url) as (answers, reading):
            gone_at = time.monotonic()
            await asyncio.to_thread(ready.hosts.kill, "gpu91")
            async with httpx.AsyncClient(base_url=url, timeout=120) as client:
                asked = [Answer(path) for path in ASKED]
                await asyncio.gather(*(read(client, answer) for answer in asked))
            await reading
        await asyncio.to_thread(ready.hosts.boot, "gpu91")
        await asyncio.to_thread(ready.wait_for, url, all_up, "gpu91 is back")

    assert {answer.node for answer in answers} == set(NAMES)
    for answer in answers:
        lost = answer.node == "gpu91"
        assert answer.done is not lost, answer.path
        assert answer.error.startswith("gpu91: ") is lost, answer
        assert answer.broken == "", answer.path
        assert not lost or answer.ended_at < gone_at + NOTICED_SECONDS, answer.path
    assert [(answer.status, answer.node, answer.done) for answer in asked] == [(200, "gpu92", True)] * len(ASKED)


async def test_a_link_that_is_cut_for_a_moment_costs_nothing(ready: Fleet) -> None:
    """TCP sends again what was lost: every stream ends whole."""
    with ready.gateway() as url:
        await asyncio.to_thread(ready.wait_for, url, all_up, "both are up")
        async with streaming(url) as (answers, reading):
            await asyncio.to_thread(ready.hosts.cut, "gpu92")
            await until(lambda: ready.nodes(url)["gpu92"]["state"] != "up", "a probe has failed", 20)
            await asyncio.to_thread(ready.hosts.heal, "gpu92")
            await reading
        await asyncio.to_thread(ready.wait_for, url, all_up, "gpu92 is back")

    assert {answer.node for answer in answers} == set(NAMES)
    assert [(answer.path, answer.done, answer.error, answer.broken) for answer in answers] == [
        (answer.path, True, "", "") for answer in answers
    ]


async def test_a_link_that_stays_cut_is_as_a_host_without_power_until_it_is_healed(ready: Fleet) -> None:
    """Streams end with an error; once the link is back the host serves again without anybody's doing."""
    with ready.gateway() as url:
        await asyncio.to_thread(ready.wait_for, url, all_up, "both are up")
        async with streaming(url) as (answers, reading):
            await asyncio.to_thread(ready.hosts.cut, "gpu92")
            await asyncio.wait_for(reading, NOTICED_SECONDS + 60)
        await asyncio.to_thread(ready.hosts.heal, "gpu92")
        await asyncio.to_thread(ready.wait_for, url, all_up, "gpu92 is back")
        async with httpx.AsyncClient(base_url=url, timeout=120) as client:
            after = [Answer("/api/chat") for _ in range(4)]
            await asyncio.gather(*(read(client, answer) for answer in after))

    for answer in answers:
        lost = answer.node == "gpu92"
        assert answer.done is not lost, answer.path
        assert answer.error.startswith("gpu92: ") is lost, answer
    assert {answer.node for answer in after} == set(NAMES)
    assert all(answer.done for answer in after)
