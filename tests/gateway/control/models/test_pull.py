import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import ollama
import pytest

from olladist.gateway.control.models.pull import GIVEN_UP, given_up
from olladist.gateway.control.roster import Seen
from olladist.scheduling.health import State
from tests.gateway.control.models.fleets import KNOWN, fleet, scripted
from tests.gateway.control.nodes import Node, Raw, running, wait_until

DIGEST = "sha256:" + "b" * 64


def stream(*lines: Any) -> Raw:
    body = "".join(json.dumps(line) + "\n" for line in lines).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
    return Raw(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))


def pulled(completed: int) -> dict[str, Any]:
    return {"status": "pulling " + "b" * 12, "digest": DIGEST, "total": 1000, "completed": completed}


BEGIN, END, SUCCESS = {"status": "pulling manifest"}, {"status": "writing manifest"}, {"status": "success"}


async def test_a_pull_reaches_as_many_hosts_as_are_wanted(run_dir: Path) -> None:
    """Two of three by default, with one success, after which the model is listed; the official client draws it."""
    async with fleet(run_dir, "gpu1", "gpu2", "gpu3") as f:
        lines = [line async for line in await f.client.pull(KNOWN, stream=True)]
        assert list(await f.tags()) == [KNOWN]
        assert len(await f.holders(KNOWN)) == 2

    assert [line.status for line in lines if not line.digest] == [
        "pulling manifest",
        "verifying sha256 digest",
        "writing manifest",
        "success",
    ]
    for digest in {line.digest for line in lines if line.digest}:
        bar = [line for line in lines if line.digest == digest]
        assert len({line.total for line in bar}) == 1
        assert bar[-1].completed == bar[-1].total


async def test_a_pull_without_a_stream_answers_once(run_dir: Path) -> None:
    """With the last line; and a model that the registry has not got is an error in Ollama's words."""
    async with fleet(run_dir, "gpu1", "gpu2") as f:
        answer = await f.request("POST", "/api/pull", {"model": KNOWN, "stream": False})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert answer.content == b'{"status":"success"}'

        answer = await f.request("POST", "/api/pull", {"model": "nope", "stream": False})
        assert (answer.status_code, answer.json()) == (500, {"error": "pull model manifest: file does not exist"})

        with pytest.raises(ollama.ResponseError, match=r"^pull model manifest: file does not exist"):
            _ = [line async for line in await f.client.pull("nope", stream=True)]


async def test_a_pull_brings_every_holder_up_to_date(run_dir: Path) -> None:
    """Whoever has an older content under that name gets the new one too, beyond the number of replicas."""
    async with fleet(run_dir, "gpu1", "gpu2", gateway="replicas = 1") as f:
        for sim in f.sims:
            await sim.make(KNOWN, f"What {sim.name} says.")
        await f.client.pull(KNOWN)
        one, two = [await sim.tags() for sim in f.sims]

    assert one == two


async def test_a_declared_model_goes_where_it_is_declared(run_dir: Path) -> None:
    """The inventory decides, not the free space."""
    text = f'[models."{KNOWN}"]\non = ["gpu2", "gpu3"]\nreplicas = 1\n[models."qwen3:0.6b"]\non = "gpu1"\n'
    async with fleet(run_dir, "gpu1", "gpu2", "gpu3", text=text) as f:
        await f.client.pull("qwen3:0.6b")
        await f.sims[1].make("other")
        await f.client.pull(KNOWN)

        assert await f.holders("qwen3:0.6b") == ["gpu1"]
        assert await f.holders(KNOWN) == ["gpu3"]


async def test_one_host_that_cannot_is_named(run_dir: Path) -> None:
    """The others have it, so the pull is a success, and says who has not got it and why."""
    good, full, odd = Node(), Node(), Node()
    for node in (good, full, odd):
        node.holds()
    good.answers["/api/pull"] = stream(BEGIN, pulled(1000), END, SUCCESS)
    full.answers["/api/pull"] = stream(BEGIN, pulled(500), {"error": "no space left on device"})
    odd.answers["/api/pull"] = Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html")
    async with (
        running(good, full, odd),
        scripted(run_dir, "replicas = 3", gpu1=good, gpu2=full, gpu3=odd) as f,
    ):
        lines = await f.lines("/api/pull", {"model": "tiny"})

    assert lines[0] == BEGIN
    assert [line["completed"] for line in lines if "digest" in line][-1] == 1000
    assert lines[-4] == END
    assert sorted(line["status"] for line in lines[-3:-1]) == [
        "not done on gpu2: no space left on device",
        "not done on gpu3: sent a line that is no JSON (JSON is malformed: invalid character (byte 0))",
    ]
    assert lines[-1] == SUCCESS


async def test_a_host_that_goes_away_in_the_middle_does_not_end_the_pull(run_dir: Path) -> None:
    """Nor does one that ends its stream without success; alone each is an error that says so."""
    gone, good = Node(), Node()
    for node in (gone, good):
        node.holds()
    whole = stream(BEGIN, pulled(10)).data
    gone.answers["/api/pull"] = Raw(whole[:-5])
    good.answers["/api/pull"] = stream(BEGIN, pulled(1000), END, SUCCESS)
    async with running(gone, good), scripted(run_dir, gpu1=gone, gpu2=good) as f:
        lines = await f.lines("/api/pull", {"model": "tiny"})
        assert lines[-2:] == [
            {
                "status": "not done on gpu1: closed the connection before its answer was whole; it gets the model when it is back"
            },
            SUCCESS,
        ]
        gone.answers["/api/pull"] = good.answers["/api/pull"] = Raw(whole)
        lines = await f.lines("/api/pull", {"model": "tiny"})
        assert lines[-1] == {"error": "its stream of progress ended without success"}


async def test_what_all_hosts_refuse_is_their_answer(run_dir: Path) -> None:
    """An answer that is no progress passes as it is, with its status; nobody there is a 503 that says when to come again."""
    one, two = Node(), Node()
    for node in (one, two):
        node.holds()
        node.answers["/api/pull"] = (412, {"error": "the model requires a newer version of Ollama"})
    async with running(one, two), scripted(run_dir, gpu1=one, gpu2=two) as f:
        answer = await f.request("POST", "/api/pull", {"model": "tiny"})
        assert (answer.status_code, answer.json()) == (412, {"error": "the model requires a newer version of Ollama"})
        await one.stop()
        await two.stop()
        await f.gateway.wait_state("gpu1", "down")
        await f.gateway.wait_state("gpu2", "down")
        answer = await f.request("POST", "/api/pull", {"model": "tiny"})
        assert (answer.status_code, int(answer.headers["retry-after"]) > 0) == (503, True)


class Hanging(Node):
    """Begins every pull and ends none; `ended` counts those whose client has left."""

    begun = ended = 0

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"POST /api/pull "):
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split()[0]))
            self.begun += 1
            writer.write(stream(BEGIN).data[:-5])
            await reader.read()
            self.ended += 1
            return False
        body = b'{"version":"0.17.4","models":[]}'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        return True


async def test_pulls_end_with_their_client(run_dir: Path) -> None:
    """An Ollama goes on for as long as its client is there; so all of them are told at once."""
    one, two = Hanging(), Hanging()
    async with running(one, two), scripted(run_dir, gpu1=one, gpu2=two) as f:
        async with f.gateway.client.stream("POST", "/api/pull", json={"model": "tiny"}) as answer:
            async for line in answer.aiter_lines():
                assert json.loads(line) == BEGIN
                break
            await wait_until(lambda: one.begun + two.begun == 2, "both pull")
            assert one.ended + two.ended == 0
        await wait_until(lambda: one.ended + two.ended == 2, "both are told that nobody wants it")


def test_a_host_that_hangs_is_given_up() -> None:
    """Not at the first probe that fails; and at once where a reload has taken it away."""
    down, up = Seen(since=100.0), Seen(state=State.UP)

    assert not given_up(down, 100.0 + GIVEN_UP)
    assert given_up(down, 101.0 + GIVEN_UP)
    assert not given_up(up, 1000.0)
    assert given_up(None, 0.0)


async def test_a_host_that_leaves_the_inventory_is_not_waited_for(run_dir: Path) -> None:
    """A reload in the middle of a pull ends it there; the others go on."""
    one, two = Hanging(), Node()
    one.holds()
    two.holds()
    two.answers["/api/pull"] = stream(BEGIN, pulled(1000), END, SUCCESS)
    async with running(one, two), scripted(run_dir, gpu1=one, gpu2=two) as f:
        told: list[str] = []
        async with f.gateway.client.stream("POST", "/api/pull", json={"model": "tiny"}, timeout=30) as answer:
            async for line in answer.aiter_lines():
                told.append(line)
                if len(told) == 1:
                    f.declare(gpu2=two)
                    f.gateway.process.send_signal(signal.SIGHUP)
    assert json.loads(told[-1]) == SUCCESS
    assert json.loads(told[-2])["status"].startswith("not done on gpu1: ")


async def test_a_host_that_was_away_is_named_and_not_waited_for(run_dir: Path) -> None:
    """It gets the model later."""
    async with fleet(run_dir, "gpu1", "gpu2", text=f'[models."{KNOWN}"]\n') as f:
        await f.sims[1].stop()
        await f.gateway.wait_state("gpu2", "down")
        lines = await f.lines("/api/pull", {"model": KNOWN})

    assert lines[-2:] == [
        {"status": "not done on gpu2: it cannot be reached; it gets the model when it is back"},
        SUCCESS,
    ]
