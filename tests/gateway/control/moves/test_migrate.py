"""Moving a model through a control process, on hosts with a real sshd and a simulated Ollama each."""

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Any

from olladist.gateway.lease import Ask, Done, Grant, Hello, ToWorker, Unpacker, pack
from olladist.ollama.store import blob_path
from tests.gateway.control.machines import Machines, gateway, progress

MIGRATE = "/api/distributed/migrate"


async def test_a_model_moves(run_dir: Path, fleet: Machines) -> None:
    """It is on the other host byte for byte, gone from the first, and the gateway sends requests there."""
    digest = fleet.make("gpu1", "tiny", "I move.")
    async with gateway(run_dir, fleet) as g:
        answer, lines = await progress(g.client, MIGRATE, {"model": "tiny", "from": "gpu1", "to": "gpu3"})
        nodes = await g.nodes()

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
    assert lines[-1] == {"status": "success"}
    statuses = list(dict.fromkeys(line["status"] for line in lines))
    assert statuses == ["moving tiny:latest from gpu1 to gpu3", "copying to gpu3", "deleting on gpu1", "success"]
    bars = [line for line in lines if "digest" in line]
    assert {line["digest"] for line in bars} == {digest}
    assert bars[-1]["completed"] == bars[-1]["total"]
    assert fleet.models("gpu1") == {}
    assert fleet.models("gpu3") == {"tiny:latest": digest}
    assert fleet.whole("gpu3", "tiny")
    assert {name: [model.name for model in node.models] for name, node in nodes.items()} == {
        "gpu1": [], "gpu2": [], "gpu3": ["tiny:latest"],
    }  # fmt: skip


async def test_a_dry_run_does_nothing(run_dir: Path, fleet: Machines) -> None:
    """It says which bytes would move, and what else there is to know."""
    digest = fleet.make("gpu1", "tiny")
    declared = '\n[models.tiny]\non = ["gpu1"]\n'
    async with gateway(run_dir, fleet, declared) as g:
        body = {"model": "Tiny", "from": "gpu1", "to": "gpu2", "dry_run": True}
        plan = (await g.client.post(MIGRATE, json=body)).json()

    assert (plan["schema"], plan["version"]) == ("olladist.gateway.plan", 1)
    assert [(s["action"], s["model"], s["digest"], s["from"], s["to"]) for s in plan["steps"]] == [
        ("copy", "tiny:latest", digest, "gpu1", "gpu2"),
        ("delete", "tiny:latest", digest, "gpu1", None),
    ]
    assert plan["bytes"] == plan["steps"][0]["bytes"] > 0
    assert plan["problems"] == ["the inventory declares tiny:latest on gpu1: the next sync or rebalance brings it back"]
    assert fleet.models("gpu2") == {}


async def test_a_copy_that_is_kept(run_dir: Path, fleet: Machines) -> None:
    """With `keep` it is on both; where it is on both already only what is damaged moves."""
    digest = fleet.make("gpu1", "tiny")
    body = {"model": "tiny", "from": "gpu1", "to": "gpu2"}
    async with gateway(run_dir, fleet) as g:
        _, kept = await progress(g.client, MIGRATE, {**body, "keep": True})
        both = fleet.models("gpu1") == fleet.models("gpu2") == {"tiny:latest": digest}
        damaged = max((fleet.store("gpu2") / "blobs").iterdir(), key=lambda path: path.stat().st_size)
        damaged.unlink()
        _, moved = await progress(g.client, MIGRATE, body)

    assert (kept[-1], moved[-1], both) == ({"status": "success"}, {"status": "success"}, True)
    assert fleet.models("gpu1") == {}
    assert fleet.whole("gpu2", "tiny")


async def test_requests_that_run_finish_first(run_dir: Path, fleet: Machines) -> None:
    """The host gets no new ones meanwhile; the model is deleted there once the last one has ended."""
    fleet.make("gpu1", "tiny")
    async with gateway(run_dir, fleet) as g:
        reader, writer = await asyncio.open_unix_connection(g.settings.lease_socket)
        with closing(writer):
            writer.write(pack(Hello(1, 1)) + pack(Ask(1, "tiny", "chat")))
            held = await granted(reader, 1)
            body = {"model": "tiny", "from": "gpu1", "to": "gpu2"}
            async with g.client.stream("POST", MIGRATE, json=body, timeout=30) as response:
                async for line in response.aiter_lines():
                    if "waiting for 1 request on gpu1" in line:
                        writer.write(pack(Ask(2, "tiny", "chat")))
                        second = await granted(reader, 2)
                        there = "tiny:latest" in fleet.models("gpu1")
                        writer.write(pack(Done(1, held.backend, "served", 200)))

        assert there
        assert second.backend != held.backend
        assert "success" in line
        assert fleet.models("gpu1") == {}


REFUSED: tuple[tuple[dict[str, Any], int, str], ...] = (
    ({"model": "tiny", "from": "gpu1", "to": "gpu1"}, 400, "gpu1 is both `from` and `to`"),
    ({"model": "a/b/c/d", "from": "gpu1", "to": "gpu2"}, 400, "invalid model name"),
    ({"model": "tiny", "from": "gpu1"}, 400, "missing required field `to`"),
    ({"model": "tiny", "from": "gpu1", "to": "gpu2", "force": True}, 400, "unknown field `force`"),
    ({"model": 5, "from": "gpu1", "to": "gpu2"}, 400, "Expected `str`"),
    ({"model": "nope", "from": "gpu1", "to": "gpu2"}, 404, "gpu1 does not have model 'nope'"),
    ({"model": "tiny", "from": "gpu1", "to": "gpu9"}, 404, "the gateway has no host 'gpu9'; is it 'gpu"),
    ({"model": "tiny", "from": "gpu1", "to": "gpu2"}, 409, "gpu2 has something else under this name"),
)


async def test_what_cannot_be(run_dir: Path, fleet: Machines) -> None:
    """A proper status before the first line, and nothing is done."""
    fleet.make("gpu1", "tiny", "One.")
    fleet.make("gpu2", "tiny", "Two.")
    before = [fleet.models(name) for name in fleet.names]
    async with gateway(run_dir, fleet) as g:
        for body, status, text in REFUSED:
            answer = await g.client.post(MIGRATE, json=body)

            assert (answer.status_code, text in answer.json()["error"]) == (status, True), answer.text
        garbage = await g.client.post(MIGRATE, content=b"{")

        assert garbage.status_code == 400
    assert [fleet.models(name) for name in fleet.names] == before


async def test_who_may_and_how(run_dir: Path, fleet: Machines) -> None:
    """POST only, with a key that may manage, and what is no JSON is said to be none."""
    fleet.make("gpu1", "tiny")
    body = {"model": "tiny", "from": "gpu1", "to": "gpu2"}
    keys = f'\n[gateway.keys.reader]\nsha256 = "{"a" * 64}"\n'
    async with gateway(run_dir, fleet, keys) as g:
        wrong = await g.client.get(MIGRATE)
        denied = await g.client.post(MIGRATE, json=body, headers={"X-Olladist-Key": "reader"})

    assert (wrong.status_code, wrong.headers["allow"], denied.status_code) == (405, "POST", 403)


async def test_a_host_that_is_down(run_dir: Path, fleet: Machines) -> None:
    """503 with when to come again, and which host it is."""
    fleet.make("gpu1", "tiny")
    async with gateway(run_dir, fleet) as g:
        fleet.kill("gpu2")
        await g.wait_state("gpu2", "down")
        answer = await g.client.post(MIGRATE, json={"model": "tiny", "from": "gpu1", "to": "gpu2"})

    assert answer.status_code == 503
    assert answer.json()["error"].startswith("gpu2 is down: ")
    assert int(answer.headers["retry-after"]) > 0


async def test_a_host_that_fails_keeps_the_model_where_it_is(run_dir: Path, fleet: Machines) -> None:
    """A source that is damaged: one error line says so, and nothing is deleted."""
    digest = fleet.make("gpu1", "tiny")
    weights = max((fleet.store("gpu1") / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    async with gateway(run_dir, fleet) as g:
        _, lines = await progress(g.client, MIGRATE, {"model": "tiny", "from": "gpu1", "to": "gpu2"})

    assert "success" not in [line.get("status") for line in lines]
    assert "wrong digest: the blob is damaged on this host" in lines[-1]["error"]
    assert (fleet.models("gpu1"), fleet.models("gpu2")) == ({"tiny:latest": digest}, {})
    assert not (fleet.store("gpu2") / blob_path("sha256:" + weights.name.removeprefix("sha256-"))).exists()


async def granted(reader: asyncio.StreamReader, number: int) -> Grant:
    unpacker: Unpacker[ToWorker] = Unpacker(ToWorker)
    async with asyncio.timeout(10):
        while True:
            for message in unpacker.feed(await reader.read(65536)):
                if isinstance(message, Grant) and message.id == number:
                    return message
