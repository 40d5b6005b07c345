import json
from collections.abc import Awaitable, Callable

from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.edge.asked import NOTHING
from olladist.gateway.edge.backends import Backend, Kind, Lent
from olladist.gateway.edge.spare import IDLE_SECONDS, Spare
from olladist.gateway.lease import RETURNED, Ask, Grant
from olladist.gateway.lease import Backend as Row
from tests.gateway.edge.harness import (
    LAST_CHUNK,
    NDJSON_HEAD,
    PROMPT,
    Connection,
    Gateway,
    answer,
    chunk,
    post,
    until,
)

KINDS = [(model, "chat", NOTHING, 0, "") for model in ("a", "b")]
GPU = Backend(Row(1, "gpu1", "x:1", 4, up=True, models=()), "distributed")


@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "take", "of", "old", "recall"]), st.sampled_from(KINDS), st.floats(0, 0.1))
    )
)
def test_a_lease_is_in_one_place(steps: list[tuple[str, Kind, float]]) -> None:
    """Each that was put here comes out once, by whichever way, in time, and for its own kind."""
    spare, now, number, recalled = Spare(), 0.0, 0, -1.0
    inside: dict[int, Lent] = {}
    for what, kind, seconds in steps:
        now += seconds
        if what == "put":
            number += 1
            lent = Lent(number, GPU, kind, now - seconds)
            if spare.put(lent, now):
                inside[number] = lent
                assert recalled < lent.granted
        elif what == "take":
            found = spare.take(kind)
            assert (found is None) == all(lent.kind != kind for lent in inside.values())
            if found is not None:
                assert found.kind == kind
                del inside[found.lease]
        elif what == "of":
            for lent in spare.of(kind[0]):
                del inside[lent.lease]
            assert all(lent.kind[0] != kind[0] for lent in inside.values())
        elif what == "old":
            for lent in spare.old(now):
                del inside[lent.lease]
            assert all(now - lent.since < IDLE_SECONDS for lent in inside.values())
        else:
            recalled = now
            assert {lent.lease for lent in spare.recall(now)} == set(inside)
            inside.clear()
        assert bool(spare) == bool(inside)


def test_a_lease_on_a_host_that_is_down_goes_back() -> None:
    """Nobody shall be sent there; one that has served for an hour may serve on, for the control process watches where it is."""
    spare = Spare()
    down = Backend(Row(2, "gpu2", "x:1", 4, up=False, models=()), "distributed")
    assert not spare.put(Lent(1, down, KINDS[0], 0.0), 0.0)
    assert spare.put(Lent(2, GPU, KINDS[0], 0.0), 3600.0)


OTHER = b'{"model":"other","prompt":"hi"}'


def again(gate: Gateway) -> None:
    """Its control process lets every lease be used again."""
    gate.control.decide = lambda ask: Grant(ask.id, 0, again=True)


async def test_the_next_request_of_the_same_kind_asks_nobody(gate: Gateway) -> None:
    """Each is told of, with what it cost, and the lease comes back when nobody takes it any more."""
    await gate.add("gpu1")
    again(gate)
    await gate.joined()
    client = await gate.client()
    sent = 0
    while len(gate.control.asks) == sent < 200:  # a machine that stands still for a moment has it asked for anew
        client.send(post() + post())
        sent += 2
        assert await client.answer() == (200, PROMPT)
        assert await client.answer() == (200, PROMPT)
    await until(lambda: len(gate.control.dones) == len(gate.control.asks), "all leases are back")

    served = [done for done in gate.control.dones if done.outcome == "served"]
    assert len(gate.control.asks) < sent
    assert len(gate.control.used) + len(served) == sent
    assert {done.outcome for done in gate.control.dones} <= {RETURNED, "served"}
    assert all(used.duration >= used.first_byte >= 0 and used.received > 0 for used in gate.control.used)


async def test_another_model_or_route_asks_for_itself(gate: Gateway) -> None:
    """What is not alike for whoever places it needs a lease of its own, and finds no slot for its model taken by what lies idle."""
    await gate.add("gpu1")
    again(gate)
    await gate.joined()
    held: list[int] = []

    def decide(ask: Ask) -> Grant:
        held.append(len(gate.control.asks) - len(gate.control.dones))
        return Grant(ask.id, 0, again=True)

    gate.control.decide = decide
    client = await gate.client()
    client.send(post() + post("/api/chat") + post(body=OTHER))
    for _ in range(3):
        assert (await client.answer())[0] == 200

    assert held[:2] == [1, 1]  # before the third the lease of the second may have been given back for its age


def turns(*texts: str) -> bytes:
    """A chat of the client and the model in turns."""
    said = [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(texts)]
    return json.dumps({"model": "tiny", "messages": said, "stream": False}).encode()


async def test_first_turns_follow_each_other_and_later_ones_ask(gate: Gateway) -> None:
    """A conversation that begins is as near to one host as to another; where it was is told, for its next turn to find."""
    await gate.add("gpu1")
    again(gate)
    await gate.joined()
    client = await gate.client()
    asked = 0
    while len(gate.control.asks) == asked < 100:  # a machine that stands still for a moment has it asked for anew
        client.send(post("/api/chat", turns(f"Hello {asked}")) + post("/api/chat", turns(f"Good morning {asked}")))
        assert [(await client.answer())[0] for _ in range(2)] == [200, 200]
        asked += 2
    await until(lambda: gate.control.used, "uses are told of")
    client.send(post("/api/chat", turns("Hello 0", "Hi", "Why?")))
    assert (await client.answer())[0] == 200

    first, later = gate.control.asks[0], gate.control.asks[-1]
    assert len(gate.control.asks) <= asked
    assert (first.begins, later.begins) == (True, False)
    assert first.affinity == later.affinity == gate.control.used[0].near


async def test_a_stream_hands_its_lease_on_however_long_it_was(gate: Gateway) -> None:
    """The next one waits for nobody; while it runs its lease is the only one."""
    going: list[Connection] = []

    async def streams(connection: Connection, head: bytes, body: bytes) -> None:
        await connection.send(NDJSON_HEAD, chunk(b'{"response":"a","done":false}\n'))
        going.append(connection)

    await gate.add("gpu1", streams)
    again(gate)
    await gate.joined()
    client = await gate.client()
    for number in range(100):
        client.send(post())
        await client.head()
        await until(lambda: going, "the stream goes on")
        await going.pop().send(chunk(b'{"response":"","done":true}\n'), LAST_CHUNK)
        await client.until(LAST_CHUNK)
        if number >= len(gate.control.asks):
            break

    assert len(gate.control.asks) == number


async def asked(gate: Gateway) -> Callable[[], Awaitable[None]]:
    """A host has a request, under a lease that may be used again; what is given has it answer, and waits until that is over."""
    answering: list[Connection] = []

    async def waits(connection: Connection, head: bytes, body: bytes) -> None:
        answering.append(connection)

    await gate.add("gpu1", waits)
    again(gate)
    await gate.joined()
    client = await gate.client()
    client.send(post())
    await until(lambda: answering, "the request is there")

    async def answers() -> None:
        await answering[0].send(answer(200, PROMPT))
        assert await client.answer() == (200, PROMPT)
        await until(lambda: gate.control.dones, "it is over")

    return answers


async def test_a_recall_brings_leases_back(gate: Gateway) -> None:
    """Those that are idle at once, the others with the end of their request."""
    answers = await asked(gate)
    gate.control.recall()
    await until(lambda: gate.control.recalled, "the recall is answered")
    await answers()

    assert [done.outcome for done in gate.control.dones] == ["served"]
    assert not gate.control.used


async def test_a_lease_that_is_recalled_alone_ends_with_its_request(gate: Gateway) -> None:
    """There are better places: others go on to be used, and no answer is sent."""
    answers = await asked(gate)
    before = gate.edge.worker.leases.access
    gate.control.recall(gate.control.asks[0].id, 4711)
    await until(lambda: gate.edge.worker.leases.access is not before, "the recall is read")
    await answers()

    assert [done.outcome for done in gate.control.dones] == ["served"]
    assert not gate.control.recalled


async def test_what_ends_otherwise_ends_its_lease(gate: Gateway) -> None:
    """An answer that is not 200 is told in a Done."""

    async def refuses(connection: Connection, head: bytes, body: bytes) -> None:
        await connection.send(answer(400, PROMPT))

    await gate.add("gpu1", refuses)
    again(gate)
    await gate.joined()
    client = await gate.client()
    for _ in range(2):
        client.send(post())
        assert (await client.answer())[0] == 400
    await until(lambda: len(gate.control.dones) == 2, "both are told of")

    assert [(done.outcome, done.status) for done in gate.control.dones] == [("served", 400)] * 2
    assert not gate.control.used


async def test_nobody_else_gets_what_a_control_process_lent_that_is_gone(gate: Gateway) -> None:
    """The next request is placed anew."""
    await gate.add("gpu1")
    again(gate)
    await gate.joined()
    client = await gate.client()
    client.send(post())
    assert await client.answer() == (200, PROMPT)
    await gate.control.stop()
    asks: list[Ask] = gate.control.asks.copy()
    await gate.joined()
    client.send(post())
    assert await client.answer() == (200, PROMPT)

    assert len(gate.control.asks) == len(asks) + 1
