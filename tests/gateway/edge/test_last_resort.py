"""What is asked for once the hosts that may be risked have been."""

import json

import pytest

from olladist.gateway.lease import Ask, Grant, Refuse
from tests.gateway.edge.harness import JSON_HEAD, PROMPT, Gateway, post, says_who, until
from tests.gateway.edge.test_failover import closes, dies, refusing, says
from tests.gateway.edge.test_wants import EMBED, VECTOR, script


def with_stand_ins(gate: Gateway) -> None:
    """The nodes "local" and "cache" only stand in, as the control process has it."""

    def decide(ask: Ask) -> Grant | Refuse:
        for number, node in enumerate(gate.control.nodes):
            if (
                number in ask.tried
                or (ask.only == "cache" and node.role != "cache")
                or (ask.only and node.role == "node")
            ):
                continue
            if node.role == "cache" and not ask.cache:
                continue
            return Grant(ask.id, number, "" if node.role == "node" else node.role, "gpu1: no connection")
        return Refuse(ask.id, 503, "nobody is left", 3)

    gate.control.decide = decide


async def test_after_three_hosts_the_local_ollama_is_asked(gate: Gateway) -> None:
    """No fourth host is, though there is one."""
    for name in ("gpu1", "gpu2", "gpu3"):
        await refusing(gate, name)
    fourth = await gate.add("gpu4")
    local = await gate.add("local")
    local.role = "local"
    with_stand_ins(gate)
    await gate.joined()
    client = await gate.client()
    client.send(post())

    head = await client.head()

    await client.exactly(PROMPT)
    assert b"X-Ollama-Node: local\r\n" in head
    assert b"X-Ollama-Fallback: local\r\nX-Ollama-Fallback-Reason: gpu1: no connection\r\n" in head
    assert [ask.only for ask in gate.control.asks] == ["", "", "", "fallback"]
    assert not fourth.connections


async def test_what_two_hosts_died_of_is_given_to_no_third(gate: Gateway) -> None:
    """Not even to the local Ollama: 502 with the reasons."""
    await gate.add("gpu1", dies)
    await gate.add("gpu2", closes)
    local = await gate.add("local")
    local.role = "local"
    with_stand_ins(gate)
    await gate.joined()
    client = await gate.client()
    client.send(post() + post("/api/embed", EMBED))

    for _ in range(2):
        status, text = await client.answer()
        assert status == 502
        assert "gpu1" in json.loads(text)["error"]
    assert not local.connections
    assert [ask.only for ask in gate.control.asks] == ["", "", "", "", "cache"]


async def test_what_two_hosts_died_of_may_have_an_answer_that_was_kept(gate: Gateway) -> None:
    """It harms nobody."""
    await gate.add("gpu1", dies)
    await gate.add("gpu2", dies)
    kept = await gate.add("cache", script(JSON_HEAD % len(VECTOR) + VECTOR))
    kept.role = "cache"
    with_stand_ins(gate)
    await gate.joined()
    client = await gate.client()
    client.send(post("/api/embed", EMBED))

    assert await client.answer() == (200, VECTOR)
    await until(lambda: gate.control.outcomes == ["died", "died", "served"], "all leases end")


async def test_the_last_answer_of_a_host_is_given_where_nobody_stands_in(gate: Gateway) -> None:
    """The words of Ollama are better than ours."""
    for name in ("gpu1", "gpu2", "gpu3"):
        await gate.add(name, says(503, b'{"error":"server busy"}'))
    with_stand_ins(gate)
    await gate.joined()
    client = await gate.client()
    client.send(post())

    assert await client.answer() == (503, b'{"error":"server busy"}')


async def test_alone_a_worker_gives_nothing_to_a_drained_host(gate: Gateway) -> None:
    """But it knows that the model is there: 503, not 404."""
    node = await gate.add("gpu1")
    node.role = "drained"
    await gate.joined()
    await gate.control.stop()
    await until(lambda: gate.edge.worker.leases._transport is None, "the worker is alone")
    client = await gate.client()
    client.send(post())

    assert (await client.answer())[0] == 503
    assert not node.connections


async def test_alone_with_nobody_a_worker_does_not_say_what_models_there_are(gate: Gateway) -> None:
    """503: a host that is away may have it. Kept answers are no host."""
    node = await gate.add("cache")
    node.role = "cache"
    await gate.joined()
    await gate.control.stop()
    await until(lambda: gate.edge.worker.leases._transport is None, "the worker is alone")
    client = await gate.client()
    client.send(post(body=b'{"model":"unknown"}'))

    assert await client.answer() == (503, b'{"error":"no host can be reached, please try again"}')


@pytest.mark.parametrize("died", [False, True])
async def test_alone_a_worker_keeps_to_the_same_bounds(gate: Gateway, died: bool) -> None:
    """While the control process is away the local Ollama is asked after three hosts, and nobody after two that died."""
    for name in ("gpu1", "gpu2", "gpu3", "gpu4"):
        if died:
            await gate.add(name, dies)
        else:
            await refusing(gate, name)
    local = await gate.add("local", says_who)
    local.role = "local"
    await gate.joined()
    await gate.control.stop()
    await until(lambda: gate.edge.worker.leases._transport is None, "the worker is alone")
    client = await gate.client()
    client.send(post())

    status, _ = await client.answer()

    assert status == (502 if died else 200)
    assert bool(local.connections) is not died


async def test_what_was_not_to_be_kept_is_still_looked_for(gate: Gateway) -> None:
    """In a flood only some answers are kept, but each of these may be given again."""
    await gate.add("gpu1", says(503, b'{"error":"server busy"}'))
    kept = await gate.add("cache", script(JSON_HEAD % len(VECTOR) + VECTOR))
    kept.role = "cache"
    with_stand_ins(gate)
    await gate.joined()
    while gate.edge.worker.may_keep():
        pass
    client = await gate.client()
    client.send(post("/api/embed", EMBED))

    assert await client.answer() == (200, VECTOR)
    first, second = gate.control.asks
    assert (bool(first.cache), bool(second.cache), second.keep) == (False, True, False)


async def test_where_nothing_was_kept_the_first_refusal_is_given(gate: Gateway) -> None:
    """Not that of the second question, which nobody has asked."""
    gate.control.decide = lambda ask: Refuse(ask.id, 503, "no host" if not ask.only else "nothing is kept", 7)
    await gate.joined()
    while gate.edge.worker.may_keep():
        pass
    client = await gate.client()
    client.send(post("/api/embed", EMBED))

    assert await client.answer() == (503, b'{"error":"no host"}')
    assert [ask.only for ask in gate.control.asks] == ["", "cache"]
