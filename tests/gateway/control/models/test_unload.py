from pathlib import Path

from tests.gateway.control.models.fleets import fleet, scripted
from tests.gateway.control.nodes import Node, loaded, running, tag


async def test_a_model_leaves_every_memory(run_dir: Path) -> None:
    """One answer, as one Ollama gives it, for generate and for chat."""
    async with fleet(run_dir, "gpu1", "gpu2", "gpu3") as f:
        for sim in f.sims:
            await sim.make("tiny")
        for path in ("/api/generate", "/api/chat"):
            for sim in f.sims[:2]:
                await sim.load("tiny")
            answer = await f.request("POST", path, {"model": "tiny", "keep_alive": 0})
            assert answer.status_code == 200
            assert (answer.json()["done"], answer.json()["done_reason"], answer.json()["model"]) == (
                True,
                "unload",
                "tiny",
            )
            assert [await sim.loaded() for sim in f.sims] == [[], [], []]
            assert (await f.request("GET", "/api/ps")).json() == {"models": []}


async def test_what_is_nowhere_in_memory_is_unloaded_all_the_same(run_dir: Path) -> None:
    """200 as Ollama; a model that nobody has is a 404 in its words."""
    async with fleet(run_dir, "gpu1", "gpu2") as f:
        await f.sims[0].make("tiny")
        answer = await f.request("POST", "/api/generate", {"model": "tiny", "keep_alive": "0s"})
        assert (answer.status_code, answer.json()["done_reason"]) == (200, "unload")

        answer = await f.request("POST", "/api/chat", {"model": "nope", "keep_alive": 0})
        assert (answer.status_code, answer.json()) == (404, {"error": "model 'nope' not found"})

        answer = await f.request("POST", "/api/generate", {"model": "tiny", "prompt": "hi"})
        assert answer.status_code == 501


async def test_a_host_that_cannot_unload_is_named(run_dir: Path) -> None:
    """The others have done it; a host that has just gone has nothing in memory any more."""
    bad, good = Node(), Node()
    for node in (bad, good):
        node.holds(tag("tiny:latest"))
        node.runs(loaded("tiny:latest"))
        node.answers["/api/generate"] = (200, {"model": "tiny", "done": True, "done_reason": "unload"})
    bad.answers["/api/generate"] = (500, {"error": "no"})
    body = {"model": "tiny", "keep_alive": 0}
    async with running(bad, good), scripted(run_dir, gpu1=bad, gpu2=good) as f:
        answer = await f.request("POST", "/api/generate", body)
        assert (answer.status_code, answer.json()) == (500, {"error": "not unloaded on gpu1 (no)"})

        bad.answers["/api/generate"] = "close"
        answer = await f.request("POST", "/api/generate", body)
        assert (answer.status_code, answer.headers["x-ollama-node"]) == (200, "gpu2")
