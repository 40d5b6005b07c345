import re
from pathlib import Path

import pytest

from olladist.gateway.settings import Limits
from tests.gateway.edge.harness import PROMPT, Connection, Gateway, chunk, gateway, post, until
from tests.gateway.edge.test_failover import hangs
from tests.gateway.edge.test_head import SMUGGLED

CHUNKED = b"POST /api/generate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 11, 13, 40])
async def test_requests_are_the_same_however_they_are_cut(gate: Gateway, step: int) -> None:
    """Two requests, one with a length and one in chunks, in pieces of every size."""
    node = await gate.add("gpu1")
    await gate.joined()
    client = await gate.client()
    data = post() + CHUNKED + chunk(PROMPT[:9]) + chunk(PROMPT[9:]) + b"0\r\n\r\n"

    for at in range(0, len(data), step):
        client.send(data[at : at + step])
        await client.writer.drain()

    assert await client.answer() == (200, PROMPT)
    assert await client.answer() == (200, PROMPT)
    assert [body for _, body in node.requests] == [PROMPT, PROMPT]


@pytest.mark.parametrize("cut", range(1, 120, 7))
async def test_requests_are_the_same_cut_anywhere_in_two(gate: Gateway, cut: int) -> None:
    """The second part comes in a packet of its own."""
    await gate.add("gpu1")
    await gate.joined()
    client = await gate.client()
    data = post()
    client.send(data[:cut])
    await until(lambda: next(iter(gate.edge._clients))._rest or cut > len(data) - len(PROMPT) - 1, "it has arrived")

    client.send(data[cut:])

    assert await client.answer() == (200, PROMPT)


# An empty line before a request is skipped (RFC 9112 §2.2), so those of the corpus are judged without it.
@pytest.mark.parametrize("raw", [raw for raw in SMUGGLED if not raw.startswith(b"\r\n")])
async def test_what_could_smuggle_a_request_ends_the_connection(gate: Gateway, raw: bytes) -> None:
    """One refusal, nothing to a backend, nothing of what follows is answered."""
    node = await gate.add("gpu1")
    await gate.joined()
    client = await gate.client()
    client.send(raw + post())

    got = await client.rest()

    assert re.match(rb"HTTP/1\.1 (400|417|501|505) ", got)
    assert got.count(b"HTTP/1.1 ") == 1
    assert b"Connection: close\r\n" in got
    assert not node.requests


async def test_an_empty_line_before_a_request_is_no_harm(gate: Gateway) -> None:
    """Some clients end a body with one CRLF too many."""
    await gate.add("gpu1")
    await gate.joined()
    client = await gate.client()
    client.send(post() + b"\r\n" + post())

    assert await client.answer() == (200, PROMPT)
    assert await client.answer() == (200, PROMPT)


async def test_what_is_no_http_is_refused_at_once(gate: Gateway) -> None:
    """A TLS hello, or a bare LF, is not waited on until it times out."""
    for raw in (b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\nHost: x\n\n"):
        client = await gate.client()
        client.send(raw)
        assert (await client.rest()).startswith(b"HTTP/1.1 400 ")


async def test_a_bad_chunk_ends_the_connection(gate: Gateway) -> None:
    """400 in the route's dialect, and no backend is asked."""
    await gate.add("gpu1")
    await gate.joined()
    client = await gate.client()
    client.send(CHUNKED.replace(b"/api/generate", b"/v1/messages") + b"5\r\nhello!\r\n0\r\n\r\n" + post())

    got = await client.rest()

    assert got.startswith(b"HTTP/1.1 400 ")
    assert b'{"type":"error","error":{"type":"invalid_request_error"' in got
    assert got.count(b"HTTP/1.1 ") == 1
    assert not gate.control.asks


@pytest.mark.parametrize(
    ("request_start", "more"),
    [
        (b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n", b"x" * 2000),
        (b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2000\r\n\r\n", b""),
        (CHUNKED.replace(b"/api/generate", b"/v1/messages"), chunk(b"x" * 999) + chunk(b"y" * 2)),
    ],
    ids=["length", "expect", "chunks"],
)
async def test_a_body_over_the_limit_is_413(run_dir: Path, request_start: bytes, more: bytes) -> None:
    """In the client's dialect, once it is clear, and the client can read it although it is still sending."""
    async with gateway(run_dir, limits=Limits(body=1000)) as gate:
        await gate.add("gpu1")
        await gate.joined()
        client = await gate.client()
        client.send(request_start + more)
        head = await client.head()

        assert head.startswith(b"HTTP/1.1 413 ")
        assert b"Connection: close\r\n" in head
        for _ in range(50):
            client.send(b"z" * 10_000)
        assert b'"the request body is too large, at most 1.0 kB are taken"' in await client.rest()
        assert not gate.control.asks


async def test_a_body_of_just_the_limit_passes(run_dir: Path) -> None:
    """The limit is a limit, with a length and in chunks."""
    async with gateway(run_dir, limits=Limits(body=len(PROMPT))) as gate:
        await gate.add("gpu1")
        await gate.joined()
        client = await gate.client()
        client.send(post() + CHUNKED + chunk(PROMPT[:5]) + chunk(PROMPT[5:]) + b"0\r\n\r\n")

        assert await client.answer() == (200, PROMPT)
        assert await client.answer() == (200, PROMPT)


@pytest.mark.parametrize("end", [b"\r\n\r\n", b""])
async def test_a_head_over_the_limit_is_431(gate: Gateway, end: bytes) -> None:
    """Whether it has an end or not."""
    client = await gate.client()
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * gate.settings.limits.head + end)

    assert (await client.rest()).startswith(b"HTTP/1.1 431 ")


async def test_silence_ends_connections_but_not_requests(gate: Gateway) -> None:
    """An idle connection, half a head, half a body: each has its time. A backend that thinks has all the time it wants."""
    limits = gate.settings.limits
    node = await gate.add("gpu1", hangs)
    await gate.joined()
    idle, head, body, working = [await gate.client() for _ in range(4)]
    head.send(b"GET / HT")
    body.send(post()[:-1])
    working.send(post())
    await until(lambda: node.requests and len(gate.edge._clients) == 4, "all are there")
    await until(lambda: sum(client.state.value == "body" for client in gate.edge._clients) == 1, "half a body is there")
    await until(lambda: sum(bool(client._rest) for client in gate.edge._clients) == 1, "half a head is there")
    now = gate.edge.worker.loop.time()

    gate.edge.sweep(now + limits.head_seconds - 1)
    gate.edge.sweep(now + limits.head_seconds + 1)
    assert (await head.rest()).startswith(b"HTTP/1.1 408 ")
    gate.edge.sweep(now + limits.body_seconds + 1)
    assert (await body.rest()).startswith(b"HTTP/1.1 408 ")
    gate.edge.sweep(now + limits.idle_seconds + 1)
    assert await idle.rest() == b""
    gate.edge.sweep(now + 100_000)

    await until(lambda: len(gate.edge._clients) == 1, "only the one that waits is left")
    assert not node.closed


async def test_a_client_that_never_stops_sending_is_cut_off(gate: Gateway) -> None:
    """After a refusal it may send for a moment, so that it can read why; then the connection is reset."""
    client = await gate.client()
    client.send(b"nonsense\r\n\r\n")
    assert (await client.head()).startswith(b"HTTP/1.1 400 ")
    await until(lambda: len(gate.edge._clients) == 1, "it lingers")

    gate.edge.sweep(gate.edge.worker.loop.time() + 3)

    await until(lambda: not gate.edge._clients, "it is gone")


BODILESS = b"GET /api/tags HTTP/1.1\r\nHost: x\r\nX-Padding: " + b"x" * 1000 + b"\r\n\r\n"
PADDED = post(extra=b"X-Padding: " + b"x" * 1000 + b"\r\n")
IN_CHUNKS = CHUNKED + chunk(PROMPT + b" " * 1000) + b"0\r\n\r\n"


@pytest.mark.parametrize("request_ahead", [BODILESS, PADDED, IN_CHUNKS], ids=["none", "length", "chunks"])
async def test_what_is_sent_ahead_is_kept_within_bounds(gate: Gateway, request_ahead: bytes) -> None:
    """While an answer is on its way a client may pipeline some; beyond that it is not read, and nothing is lost."""
    waiting: list[Connection] = []
    most = 0

    async def first_waits(connection: Connection, head: bytes, body: bytes) -> None:
        nonlocal most
        most = max(most, len(downstream._rest)) if waiting else 0
        if not waiting:
            waiting.append(connection)
            return
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    await gate.add("gpu1", first_waits)
    await gate.serve_api(first_waits)
    await gate.joined()
    client = await gate.client()
    await until(lambda: gate.edge._clients, "it is there")
    downstream = next(iter(gate.edge._clients))
    client.send(request_ahead)
    await until(lambda: waiting, "the first is under way")
    ahead = 2000
    for _ in range(ahead):
        client.send(request_ahead)
    await until(lambda: downstream._read_paused, "reading has paused")

    await waiting[0].send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    for _ in range(ahead + 1):
        assert await client.answer() == (200, b"")
    # What is allowed, and one read of uvloop's on top.
    assert most <= 2**16 + 2**18
    assert not downstream._read_paused


async def test_a_client_that_pipelines_but_does_not_read_is_held_back(gate: Gateway) -> None:
    """No further request is begun while its answers lie here; they are not collected in memory."""
    big = bytes(300_000)

    async def answers(connection: Connection, head: bytes, body: bytes) -> None:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(big), big)

    node = await gate.add("gpu1", answers)
    await gate.joined()
    client = await gate.client(limit=2**16)
    for _ in range(200):
        client.send(post())
    await until(lambda: gate.edge._clients and next(iter(gate.edge._clients)).write_paused, "it is held back")
    downstream = next(iter(gate.edge._clients))
    for _ in range(5):
        await gate.control_turns()
        assert downstream.transport.get_write_buffer_size() < 2 * len(big)
    assert len(node.requests) < 100

    for _ in range(200):
        assert await client.answer() == (200, big)


async def test_errors_for_a_client_that_does_not_read_are_not_collected(gate: Gateway) -> None:
    """Also what the gateway answers by itself waits until the client has read what came before."""
    client = await gate.client(limit=2**16)
    for _ in range(60_000):
        client.send(post(body=b""))
    await until(lambda: gate.edge._clients and next(iter(gate.edge._clients)).write_paused, "it is held back")
    downstream = next(iter(gate.edge._clients))

    assert downstream.transport.get_write_buffer_size() < 2**18
    for _ in range(60_000):
        assert (await client.answer())[0] == 400


async def test_a_backend_that_says_close_is_not_asked_on_that_connection_again(gate: Gateway) -> None:
    """Even where it is slow to close it."""

    async def last(connection: Connection, head: bytes, body: bytes) -> None:
        await connection.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")

    node = await gate.add("gpu1", last)
    await gate.joined()
    client = await gate.client()
    for _ in range(3):
        client.send(post())
        assert await client.answer() == (200, b"")

    assert (len(node.connections), len(node.requests)) == (3, 3)
