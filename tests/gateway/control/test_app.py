import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import msgspec
import pytest

from olladist.gateway.control import documents
from olladist.gateway.control.app import make_app
from olladist.gateway.control.keys import Keys
from olladist.gateway.control.moves.stores import HostStores
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.prober import Prober
from olladist.gateway.control.process import assemble
from olladist.gateway.control.roster import Roster
from olladist.gateway.control.state import open_state
from olladist.gateway.control.upstreams import Upstreams
from olladist.gateway.lease import Ask
from olladist.gateway.settings import Settings
from olladist.ollama.routes import ROUTES
from olladist.scheduling.health import State
from olladist.ssh.connections import Connections
from tests.gateway.control.declarations import declared
from tests.gateway.control.nodes import CLOSE, FAST, HANG, Node, Raw, loaded, running, tag, task_group, wait_until

# Nobody is asked twice, so a machine that stands still for a moment must not make a host count as one that is gone.
ONCE = replace(FAST, probe_every=3600, tags_every=3600, loaded_every=3600)
MODE = {"x-ollama-distributed": "true", "x-ollama-mode": "distributed"}


@dataclass
class Gateway:
    client: httpx.AsyncClient
    parts: Parts

    async def get(self, path: str) -> httpx.Response:
        return await self.client.get(path)

    async def show(self, model: str) -> httpx.Response:
        return await self.client.post("/api/show", json={"model": model})


@asynccontextmanager
async def gateway(*nodes: Node) -> AsyncIterator[Gateway]:
    """The application in front of real little HTTP servers, gpu1, gpu2 ..., that run already."""
    roster = Roster(time.monotonic)
    upstreams = Upstreams(roster)
    with TemporaryDirectory() as scratch, closing(open_state(Path(scratch) / "state.sqlite3")) as state:
        async with task_group() as tasks:
            prober = Prober(roster, tasks, pace=ONCE)
            said = declared('[hosts.gpu1]\nollama = "0.9.0"\n[gateway]\nstrategy = "round-robin"\n')
            settings = Settings(run_dir="/run/x", inventory="inventory.toml")
            stores = HostStores(Connections(state=Path(scratch)), said)
            parts = assemble(settings, said, Keys(), state, prober, upstreams, stores)
            roster.swap([node.backend(n, f"gpu{n + 1}", slots=2) for n, node in enumerate(nodes)])
            await prober.wait_first(10)
            transport = httpx.ASGITransport(make_app(parts))
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                yield Gateway(client, parts)
            await parts.stores.close()
    await upstreams.close()


def node(*names: str, version: str = "0.17.4") -> Node:
    made = Node({"/api/version": (200, {"version": version})})
    made.holds(*(tag(name) for name in names))
    return made


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_root_answers_though_no_node_does(method: str) -> None:
    """`HEAD /` is how the ollama CLI sees whether a server is there."""
    async with gateway() as g:
        response = await g.client.request(method, "/")

    assert (response.status_code, response.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert method == "HEAD" or response.text == "Ollama is running"
    assert MODE.items() <= dict(response.headers).items()


async def test_the_version_is_the_lowest_of_those_that_live() -> None:
    """What all nodes can do; the configured one where none is there."""
    one, two, odd = node(version="0.17.4"), node(version="0.9.5"), node(version="main-dirty")
    async with running(one, two, odd), gateway(one, two, odd) as g:
        assert (await g.get("/api/version")).json() == {"version": "0.9.5"}
    async with gateway(one, two) as g:
        assert (await g.get("/api/version")).json() == {"version": "0.9.0"}


async def test_tags_are_those_of_the_fleet() -> None:
    """Every model of every node once, newest first, each row with all its fields, as Go writes JSON."""
    one, two = Node(), Node()
    one.holds(tag("both:latest", modified_at="2024-01-01T00:00:00Z"))
    two.holds(
        tag("both:latest", modified_at="2024-02-02T00:00:00Z"), tag("two:latest", modified_at="2025-01-01T00:00:00Z")
    )
    async with running(one, two), gateway(one, two) as g:
        response = await g.get("/api/tags")

    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert response.json() == {
        "models": [
            tag("two:latest", modified_at="2025-01-01T00:00:00Z"),
            tag("both:latest", modified_at="2024-02-02T00:00:00Z"),
        ]
    }
    assert b'": ' not in response.content


async def test_a_model_that_has_just_come_is_listed() -> None:
    """Tags and ps are read anew when a client asks, not only at the probes' pace."""
    async with running(one := node("tiny:latest")), gateway(one) as g:
        one.holds(tag("new:latest"))
        one.runs(loaded("new:latest"))
        await wait_until(lambda: g.parts.roster.seen[0].tags_read < time.monotonic() - 0.25, "the first listing is old")

        assert [m["name"] for m in (await g.get("/api/tags")).json()["models"]] == ["new:latest"]
        (row,) = (await g.get("/api/ps")).json()["models"]

    assert row == loaded("new:latest")


async def test_a_slow_node_delays_a_listing_once_and_briefly() -> None:
    """A node that does not answer is waited for half a second by the first, by nobody after it, and its models stay listed."""
    async with running(one := node("one:latest"), two := node("two:latest")), gateway(one, two) as g:
        await wait_until(lambda: g.parts.roster.seen[1].tags_read < time.monotonic() - 0.25, "the first listing is old")
        two.answers["/api/tags"] = HANG
        began = time.monotonic()
        first = await g.get("/api/tags")
        between = time.monotonic()
        second = await g.get("/api/tags")
        ended = time.monotonic()

    assert between - began < 0.5 + 0.4
    assert ended - between < 0.4
    for response in (first, second):
        assert sorted(m["name"] for m in response.json()["models"]) == ["one:latest", "two:latest"]


async def test_models_of_a_node_that_is_down_are_not_listed() -> None:
    """Nobody could use them."""
    async with running(one := node("one:latest"), two := node("two:latest")), gateway(one, two) as g:
        for _ in range(2):
            g.parts.roster.probed(1, "no answer")

        assert [m["name"] for m in (await g.get("/api/tags")).json()["models"]] == ["one:latest"]
        assert [m["id"] for m in (await g.get("/v1/models")).json()["data"]] == ["one:latest"]


async def test_head_of_tags() -> None:
    """HEAD where Ollama has it, and 405 where not."""
    async with running(one := node("tiny")), gateway(one) as g:
        assert (await g.client.head("/api/tags")).status_code == 200
        assert (await g.client.head("/api/version")).status_code == 200
        assert (await g.client.head("/api/ps")).status_code == 405


async def test_openai_models() -> None:
    """The list and one of it, in OpenAI's shape; null for an empty list as Ollama has it."""
    async with running(one := node("acme/tiny:v1")), gateway(one) as g:
        listed = await g.get("/v1/models")
        row = {"id": "acme/tiny:v1", "object": "model", "created": 1714834609, "owned_by": "acme"}
        assert listed.json() == {"object": "list", "data": [row]}
        assert listed.headers["content-type"] == "application/json"
    async with running(one := node("Tiny:latest")), gateway(one) as g:
        got = await g.get("/v1/models/tiny")
        assert got.json() == {"id": "tiny", "object": "model", "created": 1714834609, "owned_by": "library"}
        missing = await g.get("/v1/models/nope")
        assert missing.status_code == 404
        assert missing.json()["error"] == {
            "message": "model 'nope' not found",
            "type": "api_error",
            "param": None,
            "code": None,
        }
        invalid = await g.get("/v1/models/-")
        assert (invalid.status_code, invalid.json()["error"]["message"]) == (
            500,
            "unqualified name: registry.ollama.ai/library/-:latest",
        )
    async with gateway() as g:
        assert (await g.get("/v1/models")).content == b'{"object":"list","data":null}\n'


async def test_show_is_what_a_holder_says() -> None:
    """The first holder's answer passes as it is, with its name; nobody else is asked."""
    one, two = node("other"), node("tiny")
    two.answers["/api/show"] = (200, {"modelfile": "FROM x", "capabilities": ["completion"]})
    async with running(one, two), gateway(one, two) as g:
        response = await g.show("TINY:latest")

    assert (response.status_code, response.json()["modelfile"]) == (200, "FROM x")
    assert response.headers["x-ollama-node"] == "gpu2"
    assert json.loads(two.bodies[0]) == {"model": "TINY:latest"}
    assert one.asked["/api/show"] == 0


@pytest.mark.parametrize("bad", [(404, {"error": "model 'tiny' not found"}), (500, {"error": "x"}), CLOSE, Raw(b"!")])
async def test_show_goes_on_to_the_next_holder(bad: object) -> None:
    """A holder that has lost the model, fails or is gone is passed over."""
    one, two = node("tiny"), node("tiny")
    one.answers["/api/show"] = bad
    two.answers["/api/show"] = (200, {"modelfile": "FROM y"})
    async with running(one, two), gateway(one, two) as g:
        response = await g.show("tiny")

    assert (response.json(), response.headers["x-ollama-node"]) == ({"modelfile": "FROM y"}, "gpu2")


async def test_show_says_404_when_all_have_said_so() -> None:
    """With the name as it was sent."""
    one, two = node("tiny"), node("tiny")
    for n in (one, two):
        n.answers["/api/show"] = (404, {"error": "model 'x' not found"})
    async with running(one, two), gateway(one, two) as g:
        response = await g.show("Tiny")

    assert (response.status_code, response.json()) == (404, {"error": "model 'Tiny' not found"})


async def test_show_of_a_model_that_has_just_come() -> None:
    """It is looked for once more before it is refused."""
    one = node("tiny")
    one.answers["/api/show"] = (200, {"modelfile": "FROM new"})
    async with running(one), gateway(one) as g:
        await wait_until(lambda: g.parts.roster.seen[0].tags_read < time.monotonic() - 1, "the first listing is old")
        one.holds(tag("new"))

        assert (await g.show("new")).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", 400, "missing request body"),
        (b"{", 400, "unexpected EOF"),
        (b"{}", 400, "model is required"),
        (b'{"name": "nope"}', 404, "model 'nope' not found"),
        (b'{"model": "a/b/c/d/"}', 500, "unqualified name: "),
        (b'{"model": 5}', 400, "json: cannot unmarshal number into Go struct field ShowRequest.model of type string"),
        (b'{"model": "' + b"x" * 2**22 + b'"}', 413, "more than"),
    ],
)
async def test_a_bad_show_is_refused_as_ollama_does(body: bytes, status: int, text: str) -> None:
    """Statuses and texts are Ollama's; a body without end is not read."""
    async with running(one := node("tiny")), gateway(one) as g:
        response = await g.client.post("/api/show", content=body)

    assert response.status_code == status
    assert text in response.json()["error"]


async def test_show_of_a_model_on_a_host_that_is_away() -> None:
    """503 with the names of the hosts, not 404."""
    async with running(one := node("tiny")), gateway(one) as g:
        for _ in range(2):
            g.parts.roster.probed(0, "no answer")
        response = await g.show("tiny")

    assert response.status_code == 503
    assert response.headers["retry-after"] == "3"
    assert "gpu1" in response.json()["error"]


async def test_unknown_paths_and_methods_are_answered_as_gin_does() -> None:
    """Plain text, and which methods there are."""
    async with gateway() as g:
        unknown = await g.get("/api/nope")
        wrong = [await g.client.post(path) for path in ("/api/tags", "/healthz", "/api/blobs/sha256:x", "/v1/models/x")]
        wrong[2] = await g.client.put("/api/blobs/sha256:x")

    assert (unknown.status_code, unknown.text, unknown.headers["content-type"]) == (
        404,
        "404 page not found",
        "text/plain",
    )
    assert [r.status_code for r in wrong] == [405] * 4
    assert {r.text for r in wrong} == {"405 method not allowed"}
    assert wrong[0].headers["allow"] == "HEAD, GET"
    assert wrong[2].headers["allow"] == "HEAD, POST"
    assert MODE.items() <= dict(wrong[0].headers).items()


async def test_a_percent_sign_is_decoded_once() -> None:
    """%76 is a v as for gin, %2576 is not."""
    async with gateway() as g:
        assert (await g.get("/api/%76ersion")).status_code == 200
        assert (await g.get("/api/%2576ersion")).status_code == 404


@pytest.mark.parametrize("route", [r for r in ROUTES if r.inference and r.name not in {"generate", "chat"}])
async def test_inference_is_not_for_the_control_process(route: Any) -> None:
    """Workers take it to a backend; who asks the control process itself is told so."""
    async with gateway() as g:
        response = await g.client.request(route.methods[0], route.path, json={"model": "x"})

    assert response.status_code == 501
    assert "ask the gateway's own address" in response.text


async def test_every_route_of_ollama_is_answered() -> None:
    """No route ends in an internal error or a 404 of ours, whatever is missing."""
    async with running(one := node("tiny")), gateway(one) as g:
        for route in ROUTES:
            for method in route.methods:
                response = await g.client.request(method, route.path.replace(":", "x"))
                assert response.status_code in {200, 400, 404, 500, 501, 503}, route
                assert response.text != "404 page not found" or route.name == "status"


async def test_status_of_the_cloud_is_that_of_any_node() -> None:
    """GET /api/status is passed on from the first node that answers."""
    one, two = node(), node()
    one.answers["/api/status"] = CLOSE
    two.answers["/api/status"] = (200, {"cloud": {"disabled": True, "source": "env"}})
    async with running(one, two), gateway(one, two) as g:
        response = await g.get("/api/status")
        assert (response.json()["cloud"]["disabled"], response.headers["x-ollama-node"]) == (True, "gpu2")
    async with gateway() as g:
        assert (await g.get("/api/status")).status_code == 503


async def test_the_status_document() -> None:
    """It follows its schema, and counts what runs, what is there and what drifts."""
    one, two, away = node("tiny", "drift"), node("tiny"), node()
    two.holds(tag("tiny"), tag("drift", "b" * 64))
    async with running(one, two), gateway(one, two, away) as g:
        for number in range(3):
            g.parts.dispatcher.ask(1, Ask(number, "tiny", "chat"))
        response = await g.get("/api/distributed/status")

    status = msgspec.json.decode(response.content, type=documents.Status)
    assert (status.nodes.total, status.nodes.up, status.nodes.down) == (3, 2, 1)
    assert (status.slots, status.in_flight, status.models, status.requests.granted) == (4, 3, 2, 3)
    assert (status.ollama, status.strategy, status.listen) == ("0.17.4", "round-robin", "http://127.0.0.1:11434")
    assert [(d.name, sorted(d.digests.values())) for d in status.drift] == [("drift:latest", [("gpu1",), ("gpu2",)])]


async def test_the_nodes_document() -> None:
    """It follows its schema, and says of each node how it is, why, what it holds and what runs there."""
    one, away = node("tiny", "cold"), node()
    one.holds(tag("tiny"), tag("cold", "b" * 64))
    one.runs(loaded("tiny"))
    async with running(one), gateway(one, away) as g:
        g.parts.dispatcher.ask(1, Ask(1, "tiny", "chat"))
        response = await g.get("/api/distributed/nodes")

    up, down = msgspec.json.decode(response.content, type=documents.Nodes).nodes
    assert (up.name, up.state, up.reason, up.ollama, up.slots, up.in_flight) == ("gpu1", "up", "", "0.17.4", 2, 1)
    assert [(m.name, m.warm, m.in_flight) for m in up.models] == [("tiny", True, 1), ("cold", False, 0)]
    assert [(m.name, m.size_vram, m.context_length) for m in up.loaded] == [("tiny", 900, 4096)]
    assert (down.state, down.models) == ("down", ())
    assert down.reason.startswith("no connection")
    assert up.way == "local"


async def test_health() -> None:
    """The control process is well when it answers, whatever its nodes are."""
    async with gateway() as g:
        assert (await g.get("/healthz")).json() == {"status": "ok"}
        assert g.parts.roster.seen == {}


async def test_a_node_that_hangs_in_show_is_passed_over_when_others_answer() -> None:
    """Concurrent clients are not blocked by one that waits for a node."""
    one, two = node("slow"), node("quick")
    one.answers["/api/show"] = HANG
    two.answers["/api/show"] = (200, {"modelfile": "FROM z"})
    async with running(one, two), gateway(one, two) as g:
        waiting = asyncio.create_task(g.show("slow"))
        await wait_until(lambda: one.asked["/api/show"] == 1, "the slow one is asked")

        assert (await g.show("quick")).status_code == 200
        assert not waiting.done()
        await one.stop()
        assert (await waiting).status_code == 503
        assert g.parts.roster.seen[0].state is State.UP
