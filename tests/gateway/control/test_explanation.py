"""Where a request would go, and why: what is said is what happens."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olladist.gateway.access import digest_of
from olladist.gateway.control.app import make_app
from olladist.gateway.control.backends import LOCAL_ID
from olladist.gateway.control.explanation import Explanation, NodeExplained, explain
from olladist.gateway.control.keys import Keys
from olladist.gateway.control.limits import RateLimits
from olladist.gateway.control.modes import Serving
from olladist.gateway.control.parts import Parts
from olladist.gateway.lease import Ask, Done, Grant, Refuse, Usage
from olladist.inventory.model import ApiKey, Fallback, Mode, Strategy
from olladist.ollama.names import parse_name
from tests.gateway.control.nodes import Node, loaded, tag
from tests.gateway.control.test_admin import gateway
from tests.gateway.control.test_app import Gateway
from tests.gateway.control.test_holdings import fleet, holding
from tests.gateway.control.test_late_binding import _backend, _row

B = "b" * 64
TOKEN = "admin-0123456789abcdef"


@asynccontextmanager
async def gate(
    *nodes: Node, strategy: Strategy = Strategy.ADAPTIVE, declares: str = "", keys: Keys | None = None
) -> AsyncIterator[Gateway]:
    """gpu1, gpu2 ... with two slots each; its administrator asks."""
    async with fleet(*nodes, declares=declares) as g:
        g.parts.dispatcher.strategy = strategy
        said = replace(g.parts.settings, admin_digest=digest_of(TOKEN.encode()))
        parts = replace(g.parts, settings=said, keys=keys or g.parts.keys)
        parts.leases.observer.limits = RateLimits(parts.keys, parts.now)
        transport = httpx.ASGITransport(make_app(parts))
        client = httpx.AsyncClient(transport=transport, base_url="http://gateway")
        async with client:
            client.headers["authorization"] = f"Bearer {TOKEN}"
            yield Gateway(client, parts)


async def explained(g: Gateway, model: str = "tiny", **more: str) -> Explanation:
    answer = await g.client.get("/admin/explain", params={"model": model, **more})
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=Explanation)


def by_node(said: Explanation) -> dict[str, NodeExplained]:
    return {node.node: node for node in said.nodes}


async def test_each_node_says_why_it_is_taken_or_not() -> None:
    """In words and in figures; first the one where the request goes."""
    nodes = [holding(tag("tiny:latest")) for _ in range(2)] + [holding(), holding(tag("tiny:latest"))]
    nodes[1].runs(loaded("tiny:latest"))
    async with gate(*nodes, declares='[models.tiny]\non = ["gpu3"]\n') as g:
        g.parts.roster.drain(["gpu4"])
        said = await explained(g)
        g.parts.dispatcher.ask(1, Ask(1, "tiny", "chat"))

    assert (said.goes, said.node, said.text) == ("node", "gpu2", "it would go to gpu2 now")
    assert g.parts.dispatcher.ledger.in_flight == {1: 1}
    assert [(node.node, node.verdict) for node in said.nodes[:1]] == [("gpu2", "takes")]
    found = by_node(said)
    assert found["gpu2"].text == "would go here now: in memory, 2 of 2 slots free"
    assert (found["gpu2"].slots, found["gpu2"].running, found["gpu2"].wait, found["gpu2"].load) == (2, 0, 0.0, 0.0)
    assert found["gpu1"].verdict == "unneeded"
    assert "it would have to load the model" in found["gpu1"].text
    assert found["gpu1"].gain is not None
    assert found["gpu3"].text == "cannot: it should have the model and has not; `olladist models sync` brings it"
    assert found["gpu4"].text == "drained: it gets no new work until `olladist proxy undrain gpu4`"


async def test_who_has_to_wait_is_told_for_whom() -> None:
    """Its place, and which model is in the way."""
    one = holding(tag("tiny:latest"), tag("other:latest", B))
    async with gate(one) as g:
        g.parts.dispatcher.queue._adaptive.machines[0].models_max = 1
        g.parts.dispatcher.ask(1, Ask(1, "tiny", "chat"))
        for number in range(2, 30):
            g.parts.dispatcher.ask(1, Ask(number, "tiny", "chat"))
        waits = await explained(g)
        other = await explained(g, "other", options='{"num_ctx": 99, "seed": 1}')

    assert (waits.goes, waits.position, waits.node) == ("waits", 29, "")
    assert waits.text.startswith("it would wait for a slot as number 29 of its model, ")
    assert waits.nodes[0].verdict == "loading"
    assert (other.goes, other.position, other.options) == ("waits", 1, "num_ctx=99")
    assert other.nodes[0].text == "not now: it loads tiny:latest, and one at a time"
    assert other.nodes[0].makes_room == "tiny:latest"


async def test_a_load_says_how_long_it_takes_and_who_goes_for_it() -> None:
    """What is unloaded, by name, and in figures what it gains and harms."""
    one = holding(tag("tiny:latest"), tag("other:latest", B))
    one.runs(loaded("other:latest", B))
    async with gate(one) as g:
        g.parts.dispatcher.queue._adaptive.machines[0].models_max = 1
        said = await explained(g)

    (node,) = said.nodes
    assert (node.verdict, node.makes_room) == ("loads", "other:latest")
    assert node.text == "would go here now: other:latest is unloaded, then the model is loaded in about 500 ms"
    assert said.text == "it would go to gpu1 now, which loads the model first in about 500 ms"
    assert node.gain is not None
    assert node.harm is not None
    assert node.gain > node.harm


@pytest.mark.parametrize(
    ("strategy", "texts"),
    [
        (
            Strategy.ROUND_ROBIN,
            {
                "gpu1": "would go here now: it has to load the model, 2 requests on 2 slots",
                "gpu2": "it is another's turn",
            },
        ),
        (
            Strategy.LEAST_LOADED,
            {"gpu2": "would go here now: in memory, 0 requests on 2 slots", "gpu1": "not chosen: busier, 2 requests"},
        ),
        (Strategy.MODEL_AFFINITY, {"gpu1": "not chosen: it has to load the model, and gpu2 has it in memory"}),
    ],
)
async def test_other_strategies_are_explained_too(strategy: Strategy, texts: dict[str, str]) -> None:
    """By what they look at: turns, load, memory."""
    one, two = holding(tag("tiny:latest"), tag("other:latest", B)), holding(tag("tiny:latest"))
    two.runs(loaded("tiny:latest"))
    async with gate(one, two, strategy=strategy) as g:
        for number in (1, 2):
            g.parts.dispatcher.ask(1, Ask(number, "other", "chat"))
        said = await explained(g)
        answer = g.parts.dispatcher.ask(1, Ask(3, "tiny", "chat"))

    assert isinstance(answer, Grant)
    assert said.node == g.parts.roster.backends[answer.backend].node == said.nodes[0].node
    assert (said.strategy, said.goes, said.nodes[0].verdict in {"takes", "loads"}) == (strategy.value, "node", True)
    for node, text in texts.items():
        assert text in by_node(said)[node].text


async def test_a_node_that_has_the_model_by_another_name_says_so() -> None:
    """It would not know what is asked for; nor would one that failed with it a moment ago take it again."""
    nodes = holding(tag("tiny:latest")), holding(tag("alias:latest")), holding(tag("tiny:latest"))
    async with gate(*nodes) as g:
        dispatcher = g.parts.dispatcher
        dispatcher.ask(1, Ask(1, "tiny", "chat"))
        ((failed, _),) = dispatcher.ledger.in_flight.items()
        dispatcher.done(1, Done(1, failed, "retryable", 500))
        found = by_node(await explained(g))

    assert (found["gpu2"].verdict, found["gpu2"].text) == ("failed", "has the model by another name only")
    node = found[f"gpu{failed + 1}"]
    assert (node.verdict, node.text) == ("failed", "could not serve the model a moment ago")


async def test_a_fallback_and_a_refusal_are_explained() -> None:
    """Who stands in, and why; what the client would be told, and that a kept answer may come instead."""
    one = holding(tag("tiny:latest"))
    async with gate(one) as g:
        g.parts.roster.drain(["gpu1"])
        refused = await explained(g)
        g.parts.roster.serve(Serving(Mode.DISTRIBUTED, (Fallback.LOCAL, Fallback.CACHE)))
        g.parts.roster.swap([*g.parts.roster.nodes.values(), one.backend(LOCAL_ID, "local")])
        g.parts.roster.probed(LOCAL_ID, "", "0.17.4")
        g.parts.roster.listed(LOCAL_ID, g.parts.roster.seen[0].tags)
        g.parts.roster.serve(Serving(Mode.LOCAL, (Fallback.LOCAL, Fallback.CACHE)))
        local = await explained(g)

    assert (refused.goes, refused.node) == ("refused", "")
    assert refused.text.startswith("it would be refused with 503: model 'tiny' is on gpu1 only, which is drained")
    assert refused.nodes[0].verdict == "down"
    assert (local.goes, local.node) == ("node", "local")


async def test_a_key_that_has_used_its_rate_is_told_so() -> None:
    """As its next request would be, and to ask takes none of what is left."""
    keys = Keys([ApiKey("ci", sha256="0" * 64, requests_per_minute=1)], {})
    async with gate(holding(tag("tiny:latest")), keys=keys) as g:
        before = [(await explained(g, key="ci")).goes for _ in range(3)]
        assert g.parts.leases.observer.limits.admit(Ask(1, "tiny", "chat", key="ci")) is None
        after = await explained(g, key="ci")

    assert before == ["node"] * 3
    assert after.goes == "refused"
    assert after.text.startswith("it would be refused with 429: the key 'ci' has used its 1 requests per minute")


async def test_what_nobody_knows_is_told_with_what_comes_near() -> None:
    """Models and keys; a key that may not use a model is told so."""
    keys = Keys([ApiKey("robots", sha256="0" * 64, models=("tiny",))], {})
    async with gate(holding(tag("tiny:latest"), tag("other:latest", B)), keys=keys) as g:
        model = await g.client.get("/admin/explain", params={"model": "tinny"})
        key = await g.client.get("/admin/explain", params={"model": "tiny", "key": "robot"})
        forbidden = await explained(g, "other", key="robots")
        allowed = await explained(g, "tiny", key="robots")
        del g.client.headers["authorization"]
        closed = await g.client.get("/admin/explain", params={"model": "tiny"})

    assert (model.status_code, model.json()) == (
        400,
        {
            "error": "no host has a model 'tinny', and the inventory declares none",
            "hint": "did you mean tiny?",
        },
    )
    assert key.json() == {"error": "there is no API key 'robot'", "hint": "there is robots"}
    assert forbidden.text == "it would be refused with 403: the API key 'robots' may not use the model 'other'"
    assert (allowed.goes, allowed.key, closed.status_code) == ("node", "robots", 401)


EVENTS = st.lists(
    st.tuples(st.sampled_from(["ask", "ask", "done", "state", "drain", "warm", "fail"]), st.integers(0, 20)),
    max_size=25,
)
NAMES = ("tiny", "other")


def happens(parts: Parts, event: str, which: int, number: int) -> None:
    roster, dispatcher, node = parts.roster, parts.dispatcher, which % 3
    match event:
        case "ask":
            dispatcher.ask(1, Ask(number, NAMES[which % 2], "chat", key="xy"[which % 2]))
        case "done" if held := sorted(dispatcher.ledger.held(1)):
            ended = held[which % len(held)]
            backend = dispatcher.ledger.held(1)[ended].backend
            dispatcher.done(1, Done(ended, backend, "served", 200, usage=Usage(10, 20, 1.0, 0.1, 0.5 + which)))
        case "fail" if held := sorted(dispatcher.ledger.held(1)):
            ended = held[which % len(held)]
            dispatcher.done(1, Done(ended, dispatcher.ledger.held(1)[ended].backend, "retryable", 500))
        case "state":
            roster.probed(node, "it is away" if which % 2 else "", "0.17.4")
        case "drain":
            roster.drain([f"gpu{node}"] if which % 2 else [])
        case "warm":
            roster.loaded(node, (_row("tiny", "a"),) if which % 2 else ())
        case _:
            pass


async def both(events: Sequence[tuple[str, int]], strategy: Strategy, model: str) -> tuple[object, object]:
    """What is said of the next request, and what becomes of it: the node where it goes, else "waits", or "refused"."""
    time = 100.0
    async with gateway("[hosts.gpu0]\n[hosts.gpu1]\n[hosts.gpu2]\n", now=lambda: time) as parts:
        roster, dispatcher = parts.roster, parts.dispatcher
        dispatcher.strategy = strategy
        granted: dict[int, Grant | Refuse] = {}
        dispatcher.answered = lambda worker, ask, answer, unload: granted.update({ask.id: answer})
        roster.swap([_backend(number) for number in range(3)])
        for number in range(3):
            roster.probed(number, "", "0.17.4")
            roster.listed(number, (_row("tiny", "a"), *([_row("other", "b")] if number else [])))
        for number, (event, which) in enumerate(events, 1):
            time += which / 4
            happens(parts, event, which, number)
        said = explain(parts, model)
        assert explain(parts, model) == said
        answer = dispatcher.ask(1, Ask(1000, model, "chat")) or granted.get(1000)
        first = said.nodes[0]
        if said.goes == "node":
            assert (first.node, first.verdict in {"takes", "loads"}) == (said.node, True)
        else:
            assert not any(node.verdict in {"takes", "loads"} for node in said.nodes)
        if answer is None:
            assert said.position == sum(
                each.waiting for each in dispatcher.queue.lanes() if parse_name(model).key in each.names
            )
            return said.goes, "waits"
        where = roster.backends[answer.backend].node if isinstance(answer, Grant) else "refused"
        return said.node or said.goes, where


@settings(deadline=None, max_examples=40)
@given(events=EVENTS, strategy=st.sampled_from(list(Strategy)), model=st.sampled_from(NAMES))
def test_what_is_said_is_what_the_next_request_gets(
    events: Sequence[tuple[str, int]], strategy: Strategy, model: str
) -> None:
    """Whatever the strategy, and whatever has been before; to ask twice changes nothing."""
    said, happened = asyncio.run(both(events, strategy, model))

    assert said == happened
