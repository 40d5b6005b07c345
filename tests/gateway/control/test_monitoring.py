from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha256

import httpx
import msgspec
import pytest
from prometheus_client import Metric, parser
from prometheus_client.openmetrics import parser as openmetrics

from olladist.gateway.control.app import make_app
from olladist.gateway.control.families import FAMILIES, Kind
from olladist.gateway.control.gauges import scrape
from olladist.gateway.control.keys import Keys
from olladist.gateway.control.statistics import Statistics
from olladist.gateway.lease import Ask, Done, Grant, Refuse, Usage
from olladist.inventory.model import ApiKey, Strategy
from tests.gateway.control.nodes import Node, loaded, running, tag
from tests.gateway.control.test_app import Gateway, gateway

TOKEN = "t" * 32
PLAIN = "text/plain; version=0.0.4; charset=utf-8"


def parse_text(text: str) -> list[Metric]:
    return list(parser.text_string_to_metric_families(text))


def parse_openmetrics(text: str) -> list[Metric]:
    return list(openmetrics.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]  # so is the library


@asynccontextmanager
async def watched(*nodes: Node) -> AsyncIterator[Gateway]:
    """A gateway whose nodes run, with some requests behind it."""
    async with running(*nodes), gateway(*nodes) as g:
        if nodes:
            dispatcher, observer = g.parts.dispatcher, g.parts.leases.observer
            dispatcher.strategy = Strategy.LEAST_LOADED
            for number, outcome in enumerate(("served", "left", "served")):
                ask = Ask(number, "tiny", "chat", key="ci")
                answer = dispatcher.ask(1, ask)
                assert answer is not None
                observer.answered(1, ask, answer)
                if outcome == "served":
                    assert isinstance(answer, Grant)
                    done = Done(number, answer.backend, outcome, 200, 0.2, 1.5, 99, Usage(8, 30, 0.01, 0.1, 1.0))
                    observer.done(1, done)
                    dispatcher.done(1, done)
            observer.answered(1, Ask(9, "nope", "chat"), Refuse(9, 404, "model 'nope' not found"))
        yield g


def client_of(g: Gateway, *, keys: bool, token: bool) -> httpx.AsyncClient:
    """The same gateway with keys, an admin token, both or neither."""
    digest = sha256(TOKEN.encode()).hexdigest() if token else ""
    known = Keys([ApiKey("ci", sha256="0" * 64)] if keys else [], {})
    app = make_app(replace(g.parts, settings=replace(g.parts.settings, admin_digest=digest), keys=known))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")


def node() -> Node:
    made = Node()
    made.holds(tag("tiny:latest"))
    made.runs(loaded("tiny:latest"))
    return made


async def test_metrics_are_prometheus_text() -> None:
    """What Prometheus reads, with the values that things have."""
    async with watched(one := node()) as g:
        one.runs(loaded("tiny:latest"))
        await g.parts.prober.refresh_loaded(older_than=0, within=5)
        response = await g.get("/metrics")

    assert (response.status_code, response.headers["content-type"]) == (200, PLAIN)
    values = {(s.name, *sorted(s.labels.items())): s.value for f in parse_text(response.text) for s in f.samples}
    node1, tiny = ("node", "gpu1"), ("model", "tiny:latest")
    ended = ("olladist_requests_total", tiny, node1, ("outcome", "served"), ("route", "chat"), ("status", "200"))
    assert values[ended] == 2
    assert values["olladist_requests_in_flight",] == values["olladist_node_in_flight", node1] == 1
    assert values["olladist_model_in_flight", tiny] == 1
    assert values["olladist_node_slots", node1] == values["olladist_model_slots", tiny] == 2
    assert values["olladist_node_state", node1, ("state", "up")] == 1
    assert values["olladist_node_state", node1, ("state", "down")] == 0
    assert values["olladist_model_vram_bytes", tiny, node1] == 900
    assert values["olladist_probes_total", node1] >= 1
    assert values["olladist_mode", ("mode", "distributed")] == 1
    assert values["olladist_refusals_total", ("route", "chat"), ("status", "404")] == 1
    assert values["olladist_key_tokens_total", ("key", "ci"), ("kind", "output")] == 60


async def test_what_the_nodes_have_shown_of_themselves_is_told() -> None:
    """Who else uses them, the slots that are left, what has fitted into their memory, and chunks that could not be true."""
    n = node()
    async with running(n), gateway(n) as g:
        queue = g.parts.dispatcher.queue
        known = queue.learned.node(next(iter(g.parts.roster.nodes)))
        known.trust.traces, known.lies, known.memory.proven, known.memory.refuted = 3, 2, 900.0, 5e9
        text = (await g.get("/metrics")).text

    assert 'olladist_foreign_requests_total{node="gpu1"} 3.0' in text
    assert 'olladist_unbelievable_answers_total{node="gpu1"} 2.0' in text
    assert 'olladist_node_memory_fitted_bytes{node="gpu1"} 900.0' in text
    assert 'olladist_node_memory_exceeded_bytes{node="gpu1"} 5e+09' in text
    assert (
        f'olladist_node_effective_slots{{node="gpu1"}} {float(next(iter(g.parts.roster.nodes.values())).slots)}' in text
    )
    assert 'olladist_waits_ended_total{reason="given_back"} 0.0' in text


async def test_a_model_that_gets_fewer_slots_is_told() -> None:
    """By its name, and only where it does."""
    n = Node()
    n.holds({**tag("embed:latest"), "details": {"family": "bert"}}, tag("tiny:latest", "b" * 64))
    async with running(n), gateway(n) as g:
        backend = next(iter(g.parts.roster.nodes.values()))
        g.parts.roster.swap([replace(backend, slots=4)])
        g.parts.dispatcher.queue.resize()
        text = (await g.get("/metrics")).text

    lines = [line for line in text.splitlines() if line.startswith("olladist_model_effective_slots")]
    assert lines == ['olladist_model_effective_slots{model="embed:latest",node="gpu1"} 1.0']


async def test_openmetrics_is_for_who_asks() -> None:
    """Prometheus itself does, in its Accept field."""
    accept = "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    async with watched(node()) as g:
        response = await g.client.get("/metrics", headers={"accept": accept})

    assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert len(parse_openmetrics(response.text)) >= len(FAMILIES)


@pytest.mark.parametrize("accept", ["application/openmetrics-text;version=x.y", "text/plain;version=;", ";;=,", "*/*"])
async def test_an_accept_field_that_says_nothing_useful_gets_plain_text(accept: str) -> None:
    """Whatever stands in it."""
    async with watched() as g:
        response = await g.client.get("/metrics", headers={"accept": accept})

    assert response.status_code == 200
    assert parse_text(response.text) or parse_openmetrics(response.text)


async def test_every_family_is_there_and_no_other() -> None:
    """The list that the documentation is made of is what a scrape gives, with the type it says."""
    async with watched(node()) as g:
        given = {family.name: family.type for family in scrape(g.parts).collect()}

    listed = {f.name.removesuffix("_total") if f.kind is Kind.COUNTER else f.name: f.kind.value for f in FAMILIES}
    assert {name: kind for name, kind in given.items() if not name.startswith("process_")} == listed


async def test_labels_are_those_that_are_listed() -> None:
    """Each sample has the labels of its family, in any order."""
    labels = {family.name.removesuffix("_total"): set(family.labels) for family in FAMILIES}
    async with watched(node()) as g:
        for family in scrape(g.parts).collect():
            for sample in family.samples:
                assert set(sample.labels) - {"le"} == labels.get(family.name, set())


@pytest.mark.parametrize(
    ("keys", "token", "sent", "status"),
    [
        (False, False, "", 200),
        (False, True, "", 200),
        (True, True, TOKEN, 200),
        (True, True, "", 401),
        (True, True, "wrong", 401),
        (True, False, "", 403),
    ],
)
async def test_metrics_are_open_where_there_are_no_keys(*, keys: bool, token: bool, sent: str, status: int) -> None:
    """With keys they want the admin's token; with keys and without a token they are closed."""
    async with watched(node()) as g, client_of(g, keys=keys, token=token) as client:
        response = await client.get("/metrics", headers={"authorization": f"Bearer {sent}"} if sent else {})

    assert response.status_code == status


@pytest.mark.parametrize(("token", "sent", "status"), [(False, "", 403), (True, "", 401), (True, TOKEN, 200)])
async def test_statistics_are_the_administrators(*, token: bool, sent: str, status: int) -> None:
    """Closed without a configured token, in words that say how to open them; 401 without the right one."""
    async with watched(node()) as g, client_of(g, keys=False, token=token) as client:
        response = await client.get("/admin/stats", headers={"authorization": f"Bearer {sent}"} if sent else {})

    assert response.status_code == status
    assert token or "OLLAMA_ADMIN_TOKEN" in response.json()["error"]


async def test_statistics_say_what_was_done() -> None:
    """In all and lately, by model, node and key, as the schema says."""
    async with watched(node()) as g, client_of(g, keys=False, token=True) as client:
        response = await client.get("/admin/stats", headers={"authorization": f"Bearer {TOKEN}"})
    stats = msgspec.json.decode(response.content, type=Statistics)

    assert stats.in_flight == 1
    assert set(stats.models) == {"tiny:latest"}
    assert set(stats.nodes) == {"gpu1"}
    assert set(stats.keys) == {"ci"}
    for figures in (
        stats.whole.start,
        stats.whole.minutes_1,
        stats.keys["ci"].start,
        stats.models["tiny:latest"].minutes_15,
    ):
        assert (figures.requests, figures.errors, figures.output_tokens) == (2, 0, 60)
        assert figures.output_tokens_per_second == 30
        assert figures.first_byte is not None
        assert 0.19 < figures.first_byte.p50 <= figures.first_byte.p99 < 0.21
    assert stats.whole.start.refused == 1


async def test_statistics_of_a_gateway_that_has_done_nothing_are_empty() -> None:
    """No quotient of nothing."""
    async with watched() as g, client_of(g, keys=False, token=True) as client:
        response = await client.get("/admin/stats", headers={"authorization": f"Bearer {TOKEN}"})
    figures = msgspec.json.decode(response.content, type=Statistics).whole.start

    assert (figures.requests, figures.output_tokens_per_second, figures.first_byte) == (0, None, None)
