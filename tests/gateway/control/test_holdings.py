from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec

from olladist.gateway.control import documents
from olladist.gateway.control.app import make_app
from olladist.gateway.control.caller import KEY_HEADER
from olladist.gateway.control.holdings import Due, Model, Models
from olladist.gateway.control.keys import Keys
from olladist.gateway.control.models.pending import Deed
from olladist.gateway.control.uploads.unspread import Owed, Unspread
from olladist.gateway.lease import Ask
from olladist.inventory.model import ApiKey
from olladist.ollama.names import parse_name
from tests.gateway.control.declarations import declaration
from tests.gateway.control.nodes import Node, loaded, running, tag
from tests.gateway.control.test_app import Gateway, gateway

A, B = "a" * 64, "b" * 64
TINY = parse_name("tiny").key


def holding(*rows: dict[str, object]) -> Node:
    node = Node()
    node.holds(*rows)
    return node


@asynccontextmanager
async def fleet(*nodes: Node, declares: str = "") -> AsyncIterator[Gateway]:
    """gpu1, gpu2 ..., and an inventory that declares these models."""
    async with running(*nodes), gateway(*nodes) as g:
        hosts = "".join(f"[hosts.gpu{n + 1}]\n" for n in range(len(nodes)))
        g.parts.declared.now = declaration(hosts + declares)  # which no reload takes over: the nodes stay
        await g.parts.prober.refresh_tags(older_than=0, within=5)
        await g.parts.prober.refresh_loaded(older_than=0, within=5)
        yield g


async def listed(g: Gateway) -> dict[str, Model]:
    response = await g.get("/api/distributed/models")
    return {model.name: model for model in msgspec.json.decode(response.content, type=Models).models}


async def test_each_content_is_listed_with_its_nodes() -> None:
    """A name with two contents has drifted; the content of most nodes comes first, with what Ollama says of it."""
    other = tag("tiny:latest", B, modified_at="2025-01-01T00:00:00Z")
    async with fleet(holding(other), holding(tag("tiny:latest"), tag("big:7b")), holding(tag("tiny:latest"))) as g:
        found = await listed(g)

    assert set(found) == {"tiny:latest", "big:7b"}
    tiny = found["tiny:latest"]
    assert [(content.digest, content.nodes) for content in tiny.contents] == [(A, ("gpu2", "gpu3")), (B, ("gpu1",))]
    assert (tiny.contents[1].size, tiny.contents[1].modified_at) == (1000, "2025-01-01T00:00:00Z")
    assert tiny.contents[0].details["parameter_size"] == "1B"
    assert (tiny.drift, found["big:7b"].drift) == (True, False)


async def test_what_runs_and_what_is_loaded_is_said_by_node() -> None:
    """Requests of this gateway, and memory as the nodes say."""
    one = holding(tag("tiny:latest"))
    one.runs(loaded("tiny:latest"))
    async with fleet(one, holding(tag("tiny:latest"))) as g:
        g.parts.dispatcher.ask(1, Ask(1, "tiny", "chat"))
        (model,) = (await listed(g)).values()

    assert sum(model.in_flight.values()) == 1
    assert set(model.in_flight) <= {"gpu1", "gpu2"}
    (memory,) = model.loaded
    assert (memory.node, memory.digest, memory.size_vram, memory.context_length) == ("gpu1", A, 900, 4096)


async def test_a_declared_model_is_compared_with_where_it_should_be() -> None:
    """On all of its hosts, whoever has it besides; a model that nobody has is listed as missing."""
    declares = '[models.tiny]\non = ["gpu1", "gpu2"]\n[models.new]\non = ["gpu3"]\n'
    async with fleet(holding(tag("tiny:latest")), holding(), holding(tag("tiny:latest")), declares=declares) as g:
        found = await listed(g)

    tiny, new = found["tiny:latest"].declared, found["new:latest"].declared
    assert tiny is not None
    assert new is not None
    assert (tiny.hosts, tiny.replicas, tiny.missing, tiny.surplus) == (("gpu1", "gpu2"), None, ("gpu2",), ("gpu3",))
    assert (new.missing, found["new:latest"].contents) == (("gpu3",), ())


async def test_replicas_are_counted() -> None:
    """One of two is missing on the host that would be chosen; three of two is one too many."""
    rows = tag("tiny:latest"), tag("many:latest")
    declares = "[models.tiny]\nreplicas = 2\n[models.many]\nreplicas = 2\n[models.none]\nreplicas = 1\n"
    async with fleet(holding(*rows), holding(rows[1]), holding(rows[1]), declares=declares) as g:
        found = await listed(g)

    declared = {name: model.declared for name, model in found.items()}
    tiny, many, none = declared["tiny:latest"], declared["many:latest"], declared["none:latest"]
    assert tiny is not None
    assert many is not None
    assert none is not None
    assert len(tiny.missing) == 1
    assert tiny.missing[0] in {"gpu2", "gpu3"}
    assert tiny.surplus == ()
    assert (many.missing, many.surplus) == ((), ("gpu3",))
    assert len(none.missing) == 1


async def test_what_is_still_to_be_done_is_said() -> None:
    """Deletes and copies for nodes that were away, and contents that hosts shall still get."""
    async with fleet(holding(tag("tiny:latest")), holding()) as g:
        g.parts.pending.add(Deed("gpu2", TINY))
        g.parts.pending.add(Deed("gpu2", parse_name("twin").key, TINY))
        Unspread(g.parts.state).owe(Owed("gpu2", parse_name("made").key, "sha256:" + A))
        found = await listed(g)

    assert {name: model.due for name, model in found.items()} == {
        "made:latest": (Due(what="bring", where="gpu2"),),
        "tiny:latest": (Due(what="delete", where="gpu2"),),
        "twin:latest": (Due(what="copy", where="gpu2"),),
    }


async def test_a_key_sees_its_models_alone() -> None:
    """In all three documents, drift and what is in memory included."""
    one = holding(tag("tiny:latest"), tag("secret:latest"))
    one.runs(loaded("secret:latest"))
    async with fleet(one, holding(tag("secret:latest", B)), declares='[models.hidden]\non = ["gpu1"]\n') as g:
        keys = Keys([ApiKey("ci", sha256="0" * 64, models=("tiny",))], {})
        g.client._transport.app = make_app(replace(g.parts, keys=keys))  # type: ignore[attr-defined]  # httpx.ASGITransport
        g.client.headers[KEY_HEADER] = "ci"
        texts = [(await g.get(f"/api/distributed/{name}")).text for name in ("status", "nodes", "models")]

    assert "tiny" in texts[1]
    assert "tiny" in texts[2]
    assert not any("secret" in text or "hidden" in text for text in texts)


async def test_a_status_says_who_has_decided_and_what_nodes_run() -> None:
    """Mode, fallback and their sources, drained nodes, and versions that differ."""
    one, two = holding(), holding()
    two.answers["/api/version"] = (200, {"version": "0.9.5"})
    async with fleet(one, two) as g:
        g.parts.roster.drain(["gpu2"])
        status = documents.status(g.parts)
        nodes = documents.nodes(g.parts).nodes

    assert status.versions == {"0.17.4": ("gpu1",), "0.9.5": ("gpu2",)}
    assert (status.mode, status.decided_by.mode, status.drained, status.keys) == (
        "distributed",
        "inventory",
        ("gpu2",),
        0,
    )
    assert [(node.role, node.drained) for node in nodes] == [("node", False), ("node", True)]
