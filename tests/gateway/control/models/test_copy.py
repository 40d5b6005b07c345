from pathlib import Path

import pytest

from olladist.gateway.control.models.copy import destination
from tests.gateway.control.models.fleets import KNOWN, fleet, scripted
from tests.gateway.control.nodes import Node, running, tag

TINY, TWIN = "tiny:latest", "twin:latest"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"source":"a","destination":"b"}', "b"),
        (b'{"DESTINATION":"b","destination":"c"} trailing', "c"),
        (b'{"destination":"b","destination":null}', "b"),
        (b'{"source":"a"}', ""),
        (b"null", ""),
    ],
)
def test_the_destination_is_read_as_go_reads_it(body: bytes, named: str) -> None:
    """In any case, the last one counts, null changes nothing."""
    assert destination(body) == named


async def test_a_copy_is_made_wherever_the_source_is(run_dir: Path) -> None:
    """200 with an empty body; bad names and a source that is nowhere are refused in Ollama's words."""
    async with fleet(run_dir, "gpu1", "gpu2", "gpu3") as f:
        for sim in f.sims[:2]:
            await sim.make("tiny")
        answer = await f.request("POST", "/api/copy", {"source": "tiny", "destination": "twin"})
        assert (answer.status_code, answer.content, answer.headers.get("content-type")) == (200, b"", None)
        assert sorted(await f.tags()) == [TINY, TWIN]
        assert await f.holders(TWIN) == ["gpu1", "gpu2"]

        for body, status, text in (
            ({"source": "nope", "destination": "x"}, 404, 'model "nope" not found'),
            ({"source": "tiny", "destination": "-"}, 400, 'destination "-" is invalid'),
            ({"source": "", "destination": "-"}, 400, 'source "" is invalid'),
            ({"source": "tiny", "destination": 5}, 400, None),
        ):
            answer = await f.request("POST", "/api/copy", body)
            assert answer.status_code == status, answer.text
            assert text is None or answer.json() == {"error": text}


async def test_a_name_that_is_overwritten_means_one_thing(run_dir: Path) -> None:
    """Hosts without the source lose what they had under the name; one that is away makes the copy when it is back."""
    async with fleet(run_dir, "gpu1", "gpu2", "gpu3") as f:
        for sim in f.sims[::2]:
            await sim.pull(KNOWN)
        for sim in f.sims[1:]:
            await sim.make("twin")
        await f.wait_known(gpu1=KNOWN, gpu2=TWIN, gpu3=f"{KNOWN} {TWIN}")
        await f.sims[2].stop()
        await f.gateway.wait_state("gpu3", "down")
        await f.client.copy(KNOWN, "twin")
        tags = await f.tags()
        assert tags[TWIN] == tags[KNOWN]
        assert await f.holders(TWIN) == ["gpu1"]

        await f.sims[2].start()
        await f.gateway.wait_state("gpu3", "up")
        assert (await f.tags())[TWIN] == tags[KNOWN]
        await f.wait_digest("gpu3", TWIN, tags[KNOWN])
        assert (await f.tags())[TWIN] == tags[KNOWN]


async def test_a_copy_that_fails_on_one_host_names_it(run_dir: Path) -> None:
    """The others have made it."""
    bad, good = Node(), Node()
    for node in (bad, good):
        node.holds(tag("tiny:latest"))
        node.answers["/api/copy"] = (200, None)
    bad.answers["/api/copy"] = (500, {"error": "no space left on device"})
    async with running(bad, good), scripted(run_dir, gpu1=bad, gpu2=good) as f:
        answer = await f.request("POST", "/api/copy", {"source": "tiny", "destination": "twin"})

    assert answer.status_code == 500
    assert answer.json() == {"error": "not copied on gpu1 (no space left on device); copied on gpu2"}
