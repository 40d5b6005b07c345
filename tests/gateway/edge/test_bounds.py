import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.edge.bounds import (
    FULL,
    FULL_FOR_ADDRESS,
    TOLD_MAX,
    Bodies,
    Connections,
    Pace,
    Stall,
    affordable,
    network,
)
from olladist.gateway.settings import Limits
from tests.gateway.edge.harness import (
    JSON_HEAD,
    NDJSON_HEAD,
    Connection,
    Gateway,
    chunk,
    gateway,
    post,
    says_who,
    until,
)


def test_connections_are_counted_in_all_and_by_address() -> None:
    """One too many is told so, and makes room again when it has left."""
    connections = Connections(3, 2)

    assert [connections.enter(peer) for peer in ("a", "a", "a", "b")] == [None, None, FULL_FOR_ADDRESS, FULL]
    for _ in range(2):
        connections.leave("a")
    assert connections.enter("a") is None


def test_without_a_bound_for_addresses_none_are_remembered() -> None:
    """0 is no bound."""
    connections = Connections(10, 0)

    assert [connections.enter("a") for _ in range(11)] == [None] * 10 + [FULL]


@pytest.mark.parametrize(
    ("wanted", "descriptors", "got"),
    [(9500, 20_000, 9500), (9500, 1024, 448), (9500, 64, 1), (0, 1024, 0), (100, 1024, 100)],
)
def test_no_more_clients_are_taken_than_there_are_descriptors_for(wanted: int, descriptors: int, got: int) -> None:
    """An accept that fails for want of them would leave everybody without an answer."""
    assert affordable(wanted, descriptors) == got


def test_few_of_those_over_the_bound_are_told() -> None:
    """In a flood the others are only closed."""
    connections = Connections(1, 0)
    told = [connections.can_tell for _ in range(TOLD_MAX + 2) if connections.enter("a") or True]

    assert told == [True] * (TOLD_MAX + 1) + [False]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::2:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("unknown", "unknown", True),
    ],
)
def test_what_counts_as_one_address(one: str, other: str, *, same: bool) -> None:
    """Of IPv6 the first half: the other is anybody's to choose."""
    assert (network(one) == network(other)) is same


@given(st.lists(st.integers(1, 100), max_size=30))
def test_bodies_never_hold_more_than_their_bound(sizes: list[int]) -> None:
    """What does not fit is not counted; what is released makes room."""
    bodies = Bodies(200)
    taken = [piece for piece in sizes if bodies.take(piece)]

    assert bodies.held == sum(taken) <= 200
    for piece in taken:
        bodies.release(piece)
    assert bodies.take(200)


def test_a_stall_is_what_does_not_change() -> None:
    """Nothing unsent is none, and every byte that is read starts the clock anew."""
    stall = Stall()

    assert [stall.seconds(unsent, now) for unsent, now in ((0, 1), (0, 9), (5, 10), (5, 12), (4, 13), (4, 20), (0, 30))] == [
        0, 0, 0, 2, 0, 7, 0
    ]  # fmt: skip


def test_a_slow_body_is_found_once_in_a_while() -> None:
    """By what came in the time that has passed; a fast one is forgotten and measured anew."""
    pace = Pace(0.0)
    pace.came(600)

    assert not pace.is_slow(10, 60, 59.0)
    assert not pace.is_slow(10, 60, 60.0)
    pace.came(599)
    assert not pace.is_slow(10, 60, 119.0)
    assert pace.is_slow(10, 60, 120.0)


async def test_a_connection_too_many_is_told_so(run_dir: Path) -> None:
    """503 for all, 429 for one address; those that are there go on, and a place that is free again is given away."""
    async with gateway(run_dir, limits=Limits(connections=3, connections_per_address=2)) as gate:
        await gate.serve_api(says_who)
        first, second = await gate.client(), await gate.client()
        for client in (first, second):
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await client.answer())[0] == 200

        third = await (await gate.client()).rest()
        assert third.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
        assert b"Retry-After: 1\r\n" in third

        first.leave()
        await until(lambda: gate.edge.worker.connections.all == 1, "the others have left")
        again = await gate.client()
        again.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await again.answer())[0] == 200
        await until(lambda: gate.counted("too_many") == 1, "it is counted")


async def test_a_worker_that_is_full_says_503(run_dir: Path) -> None:
    """Before anything was asked, so in Ollama's own shape."""
    async with gateway(run_dir, limits=Limits(connections=0)) as gate:
        status, body = await (await gate.client()).answer()

        assert (status, json.loads(body)) == (503, {"error": FULL[1]})


async def test_bodies_in_memory_have_a_bound_together(run_dir: Path) -> None:
    """One body too many is a 503 with Retry-After; when another request is over, its place is free."""
    async with gateway(run_dir, limits=Limits(bodies=3000)) as gate:
        release: list[Connection] = []

        async def waits(connection: Connection, head: bytes, body: bytes) -> None:
            if b"wait" in body:
                release.append(connection)
            else:
                await says_who(connection, head, body)

        await gate.add("gpu1", waits)
        await gate.joined()
        big = b'{"model":"tiny","prompt":"%b"}'
        first, second = await gate.client(), await gate.client()
        first.send(post(body=big % (b"wait" * 500)))
        await until(lambda: release, "the first is with its backend")
        second.send(post(body=big % (b"x" * 2000)))

        head = await second.head()
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1\r\n" in head
        await release[0].send(JSON_HEAD % 2, b"{}")
        assert await first.answer() == (200, b"{}")
        await until(lambda: gate.edge.worker.bodies.held == 0, "nothing is held")

        third = await gate.client()
        for framing in (post(body=big % (b"x" * 2000)), chunked_post(big % (b"y" * 2000))):
            third.send(framing)
            assert (await third.answer())[0] == 200
        assert gate.edge.worker.bodies.held == 0


def chunked_post(body: bytes) -> bytes:
    head = b"POST /api/generate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + chunk(body[:100]) + chunk(body[100:]) + b"0\r\n\r\n"


async def test_what_clients_leave_behind_is_not_counted_for_ever(gate: Gateway) -> None:
    """In the middle of a body, and while a backend works."""
    await gate.add("gpu1", holds)
    await gate.joined()
    half, waiting = await gate.client(), await gate.client()
    half.send(post(body=b"x" * 1000)[:-500])
    waiting.send(post())
    await until(lambda: gate.edge.worker.bodies.held > 500, "both are counted")

    half.leave()
    waiting.leave()

    await until(lambda: gate.edge.worker.bodies.held == 0, "nothing is")


async def holds(connection: Connection, head: bytes, body: bytes) -> None:
    await connection.ended()


async def test_a_client_that_does_not_read_is_cut(gate: Gateway) -> None:
    """After `read_seconds` in which not a byte of what waits for it went out; its backend is free then."""

    async def floods(connection: Connection, head: bytes, body: bytes) -> None:
        await connection.send(NDJSON_HEAD, *[chunk(b"z" * 65_000)] * 400)

    node = await gate.add("gpu1", floods)
    await gate.joined()
    client = await gate.client(limit=2**16)
    client.send(post())
    await client.head()
    downstream = next(iter(gate.edge._clients))
    await until(lambda: downstream.write_paused, "it is held back")
    await until_still(gate)
    now, limit = gate.edge.worker.loop.time(), gate.settings.limits.read_seconds
    downstream.sweep(now)
    downstream.sweep(now + limit - 1)
    assert not downstream.transport.is_closing()

    downstream.sweep(now + limit + 1)

    await until(lambda: node.closed == 1, "the backend is free")
    await until(lambda: gate.control.outcomes == ["left"], "the lease ends")
    await until(lambda: gate.counted("cut_slow") == 1, "it is counted")


async def test_a_whole_answer_that_nobody_fetches_is_given_up(gate: Gateway) -> None:
    """Also where the connection only waits to be closed."""

    async def answers(connection: Connection, head: bytes, body: bytes) -> None:
        await connection.send(JSON_HEAD % 30_000_000, bytes(30_000_000))

    await gate.add("gpu1", answers)
    await gate.joined()
    client = await gate.client(limit=2**10)
    client.send(post(extra=b"Connection: close\r\n"))
    await client.head()
    downstream = next(iter(gate.edge._clients))
    await until(lambda: downstream.write_paused, "it waits")
    await until_still(gate)
    now = gate.edge.worker.loop.time()
    downstream.sweep(now)

    downstream.sweep(now + gate.settings.limits.read_seconds + 1)

    await until(lambda: not any(c is downstream for c in gate.edge._clients), "the connection is gone")


async def until_still(gate: Gateway) -> None:
    """Returns when nothing more goes into the kernel's buffers."""
    downstream = next(iter(gate.edge._clients))
    seen: list[int] = []

    def still() -> bool:
        seen.append(downstream.transport.get_write_buffer_size())
        return len(seen) > 20 and len(set(seen[-20:])) == 1

    await until(still, "nothing moves")


async def test_a_body_that_drips_is_ended(gate: Gateway) -> None:
    """It comes, never silent for long, and yet too slowly to be more than a connection that is held."""
    await gate.add("gpu1")
    await gate.joined()
    client = await gate.client()
    client.send(post(body=b"x" * 1000)[:-500])
    await until(lambda: gate.edge.worker.bodies.held, "half of it is here")
    downstream, limits = next(iter(gate.edge._clients)), gate.settings.limits
    start = gate.edge.worker.loop.time()
    downstream._since = start + limits.body_seconds  # the last drop came just now

    downstream.sweep(start + limits.body_seconds - 1)
    assert downstream.exchange is not None
    downstream.sweep(start + limits.body_seconds + 1)

    status, body = await client.answer()
    assert (status, json.loads(body)) == (408, {"error": "less than 1.0 kB a second of the request body came"})


def told(gate: Gateway) -> Counter[str]:
    return sum((Counter(tally.counts) for tally in gate.control.tallies), Counter[str]())


async def test_what_a_worker_refuses_is_told_to_the_control_process(gate: Gateway) -> None:
    """In sums, by kind, once a second; what was told is not told again."""
    await gate.joined()
    await until(lambda: gate.edge.worker.leases._transport, "the control process is there")
    client = await gate.client()
    client.send(b"nonsense\r\n\r\n")
    await client.rest()

    gate.edge.sweep(gate.edge.worker.loop.time())

    await until(lambda: told(gate) == {"connections": 1, "bad_request": 1}, "both are told of")
    assert not gate.edge.worker.counts
