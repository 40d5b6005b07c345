from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.control.models.asking import Outcome
from olladist.gateway.control.models.targets import Store
from olladist.gateway.control.models.verdict import verdict
from olladist.gateway.control.upstreams import Answered
from tests.gateway.control.models.fleets import KNOWN, fleet, scripted
from tests.gateway.control.nodes import Node, running, tag

TINY = "tiny:latest"


async def test_a_delete_reaches_every_holder(run_dir: Path) -> None:
    """200 with an empty body, as Ollama; then it is nowhere, and a second one is a 404 in Ollama's words."""
    async with fleet(run_dir, "gpu1", "gpu2", "gpu3") as f:
        for sim in f.sims[:2]:
            await sim.make("tiny")
        await f.sims[2].make("other")
        answer = await f.request("DELETE", "/api/delete", {"model": "Tiny"})
        assert (answer.status_code, answer.content, answer.headers.get("content-type")) == (200, b"", None)
        assert list(await f.tags()) == ["other:latest"]
        assert await f.holders(TINY) == []

        answer = await f.request("DELETE", "/api/delete", {"model": "tiny"})
        assert (answer.status_code, answer.json()) == (404, {"error": "model 'tiny' not found"})


async def test_a_host_that_was_away_brings_nothing_back(run_dir: Path) -> None:
    """It deletes the model when it is back, before it is listed, also when the gateway was started anew meanwhile."""
    async with fleet(run_dir, "gpu1", "gpu2") as f:
        for sim in f.sims:
            await sim.make("tiny")
        await f.wait_known(gpu1=TINY, gpu2=TINY)
        away = f.sims[1]
        await away.stop()
        await f.gateway.wait_state("gpu2", "down")
        await f.client.delete("tiny")
        assert await f.tags() == {}
        show = await f.request("POST", "/api/show", {"model": "tiny"})
        assert (show.status_code, show.json()) == (404, {"error": "model 'tiny' not found"})
        # The gateway goes too, and comes back first.
    async with fleet(run_dir, sims=f.sims[:1]):
        pass
    async with fleet(run_dir, sims=f.sims) as f:
        assert await f.tags() == {}
        await f.gateway.wait_state("gpu2", "up")
        assert await f.tags() == {}
        await f.wait_gone("gpu2", TINY)
        assert await f.tags() == {}


async def test_what_was_put_there_since_stays(run_dir: Path) -> None:
    """A host that comes back with something else under the name keeps it; and a pull of the name cancels what was to be deleted."""
    async with fleet(run_dir, "gpu1", "gpu2", "gpu3", gateway="replicas = 1") as f:
        for sim in f.sims:
            await sim.make(KNOWN)
        await f.wait_known(gpu1=KNOWN, gpu2=KNOWN, gpu3=KNOWN)
        for number in (1, 2):
            await f.sims[number].stop()
            await f.gateway.wait_state(f"gpu{number + 1}", "down")
        await f.client.delete(KNOWN)
        await f.sims[1].change_unseen(KNOWN, "Something else.")
        await f.sims[1].start()
        await f.wait_known(gpu2=KNOWN)
        assert await f.holders(KNOWN) == ["gpu2"]

        await f.client.pull(KNOWN)
        await f.sims[2].start()
        await f.gateway.wait_state("gpu3", "up")
        assert await f.holders(KNOWN) == ["gpu2", "gpu3"]


async def test_a_host_that_cannot_is_named_and_the_others_have_done_it(run_dir: Path) -> None:
    """500 with who has not deleted it and why; alone it is that host's own answer."""
    bad, good = Node(), Node()
    for node in (bad, good):
        node.holds(tag("tiny:latest"))
        node.answers["/api/delete"] = (200, None)
    bad.answers["/api/delete"] = (500, {"error": "read-only file system"})
    async with running(bad, good), scripted(run_dir, gpu1=bad, gpu2=good) as f:
        answer = await f.request("DELETE", "/api/delete", {"model": "tiny"})
        assert answer.status_code == 500
        assert answer.json() == {"error": "not deleted on gpu1 (read-only file system); deleted on gpu2"}

        good.holds()
        answer = await f.request("DELETE", "/api/delete", {"model": "tiny"})
        assert (answer.status_code, answer.json()) == (500, {"error": "read-only file system"})


def outcome(host: str, status: int) -> Outcome:
    answer = Answered(status, "application/json", b'{"error":"no"}') if status else None
    return Outcome(Store(host, (host,)), answer, host, "" if status else "gone")


outcomes = st.lists(st.sampled_from([200, 404, 500, 400, 0]), max_size=4).map(
    lambda statuses: [outcome(f"gpu{n}", status) for n, status in enumerate(statuses)]
)


@given(outcomes, st.booleans())
def test_a_verdict_hides_no_failure(outcomes: list[Outcome], remembered: bool) -> None:
    """Who has answered with an error is named; 404 is for what nobody had; what will be done later is as good as done."""
    judged = verdict(outcomes, "deleted", remembered=remembered)
    counted = [o for o in outcomes if o.answer or not remembered]
    failed = [o for o in counted if o.status not in {200, 404}]

    if failed and not judged.only:
        assert judged.status == 500
        assert all(o.store.host in judged.text for o in failed)
    elif failed:
        assert (judged.only, len(outcomes)) == (failed[0], 1)
    elif remembered or any(o.status == 200 for o in outcomes):
        assert judged.status == 200
    else:
        assert judged.status == 404
