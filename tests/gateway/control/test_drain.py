"""Nodes that get no new work, in a control process before scripted Ollamas."""

import asyncio
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from olladist.errors import UsageError
from olladist.gateway.control.drain import Drained, nodes_meant
from olladist.gateway.lease import Done, pack
from olladist.inventory.parse import parse
from tests.gateway.control.nodes import Node, running, tag
from tests.gateway.control.processes import Control, Worker, control
from tests.gateway.control.test_reload import write

INVENTORY = """
[groups.fast]
[hosts.gpu1]
groups = ["fast"]
[hosts.gpu2]
groups = ["fast"]
[hosts.big]
instances = [{ port = 1 }, { port = 2 }]
"""
NODES = {"gpu1": "gpu1", "gpu2": "gpu2", "big:1": "big", "big:2": "big"}


async def drain(c: Control, *nodes: str, path: str = "/admin/drain", force: bool = False) -> Drained:
    answer = await c.operator.post(path, json={"nodes": nodes, "force": force})
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=Drained)


async def test_a_drained_node_finishes_what_runs_and_gets_nothing_new(run_dir: Path) -> None:
    """Also after the control process was started again; undrain gives it back."""
    one, two = Node(), Node()
    for node in (one, two):
        node.holds(tag("tiny"))
    async with running(one, two):
        path = write(run_dir, one, two, gateway='strategy = "round-robin"')
        async with control(run_dir, path) as c:
            worker = Worker(*await asyncio.open_unix_connection(c.settings.lease_socket))
            with closing(worker.writer):
                assert {await worker.granted(1), await worker.granted(2)} == {0, 1}

                done = await drain(c, "gpu1")
                assert [(n.name, n.in_flight) for n in done.nodes] == [("gpu1", 1)]
                assert (done.changed, done.unreachable_models) == (("gpu1",), ())
                assert [await worker.granted(n) for n in (3, 4, 5)] == [1, 1, 1]
                for number in (1, 2):
                    worker.writer.write(pack(Done(number, number - 1, "served", 200)))
                worker.writer.write(pack(Done(3, 1, "served", 200)))
                assert (await drain(c, "gpu1")).changed == ()
                async with asyncio.timeout(10):
                    while (await c.operator.get("/admin/drain")).json()["nodes"][0]["in_flight"]:
                        pass

        for socket in ("api.sock", "operator.sock"):
            (run_dir / socket).unlink(missing_ok=True)
        async with control(run_dir, path) as c:
            assert [node["name"] for node in (await c.operator.get("/admin/drain")).json()["nodes"]] == ["gpu1"]
            back = await drain(c, "gpu*", path="/admin/undrain")
            assert (back.nodes, back.changed) == ((), ("gpu1",))


async def test_the_only_holder_of_a_model_is_not_drained_by_mistake(run_dir: Path) -> None:
    """The answer names the model and what to do; force does it all the same, and says what nobody can use now."""
    one, two = Node(), Node()
    one.holds(tag("tiny"), tag("mine"))
    two.holds(tag("tiny"))
    async with running(one, two), control(run_dir, write(run_dir, one, two)) as c:
        refused = await c.operator.post("/admin/drain", json={"nodes": ["gpu1"]})
        assert refused.status_code == 409
        assert "mine:latest" in refused.json()["error"]
        assert "tiny" not in refused.json()["error"]
        assert "--force" in refused.json()["hint"]
        assert (await c.operator.get("/admin/drain")).json()["nodes"] == []
        assert (await c.operator.post("/admin/drain", json={"nodes": ["gpu1", "gpu2"]})).status_code == 409

        assert (await drain(c, "gpu2")).changed == ("gpu2",)
        assert (await c.operator.post("/admin/drain", json={"nodes": ["gpu1"]})).status_code == 409
        assert (await drain(c, "gpu1", force=True)).unreachable_models == ("mine:latest", "tiny:latest")


@pytest.mark.parametrize(
    "body", ["", "[]", '{"nodes": []}', '{"nodes": ["gpu7"]}', '{"nodes": ["gpu1"], "hard": true}']
)
async def test_a_request_that_names_nobody_is_refused(run_dir: Path, body: str) -> None:
    """With what is wrong about it."""
    one = Node()
    async with running(one), control(run_dir, write(run_dir, one)) as c:
        answer = await c.operator.post("/admin/drain", content=body)

    assert answer.status_code == 400
    assert answer.json()["error"]


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["gpu2"], ["gpu2"]),
        (["fast"], ["gpu1", "gpu2"]),
        (["big"], ["big:1", "big:2"]),
        (["big:2", "gpu1"], ["gpu1", "big:2"]),
        (["gpu[1-2],!gpu1"], ["gpu2"]),
        (["gone"], ["gone"]),
    ],
)
def test_words_name_nodes_hosts_and_groups(words: list[str], meant: list[str]) -> None:
    """In the order of the inventory; and who was drained before and has left it since."""
    assert nodes_meant(words, NODES, parse(INVENTORY, Path("i.toml")), {"gone"}) == meant


@pytest.mark.parametrize("word", ["gpu9", "big:3", "rack*"])
def test_a_word_that_means_nobody_is_refused(word: str) -> None:
    """Rather than to drain less than was meant."""
    with pytest.raises(UsageError):
        nodes_meant(["gpu1", word], NODES, parse(INVENTORY, Path("i.toml")))
