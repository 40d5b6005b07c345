import asyncio
import hashlib

import pytest

from olladist.gateway.edge.passage import Passage
from tests.gateway.edge.harness import (
    JSON_HEAD,
    LAST_CHUNK,
    NDJSON_HEAD,
    Connection,
    Gateway,
    answer,
    chunk,
    says_who,
    until,
)


async def test_everything_else_is_the_control_process_to_answer(gate: Gateway) -> None:
    """Method, target and Host arrive; the client's address is added, its credentials are not; the answer comes back."""
    api = await gate.serve_api(says_who)
    client = await gate.client()
    client.send(b"PATCH /api/x?y=%20 HTTP/1.1\r\nHost: fleet\r\nAuthorization: Bearer s\r\nContent-Length: 2\r\n\r\n{}")

    head = await client.head()

    await client.exactly(b"{}")
    assert api.requests[0][0] == (
        b"PATCH /api/x?y=%20 HTTP/1.1\r\nHost: fleet\r\nContent-Length: 2\r\nX-Forwarded-For: 127.0.0.1\r\nConnection: close\r\n\r\n"
    )
    assert b"X-Ollama-Distributed: true\r\n" in head
    assert b"X-Ollama-Node" not in head
    assert b"Connection" not in head


@pytest.mark.parametrize("path", ["/", "/api/tags", "/api/show", "/v1/models", "/nowhere", "/api/generate/x"])
async def test_nothing_but_inference_takes_a_lease(gate: Gateway, path: str) -> None:
    """Also where the path is unknown: to say so is the control process' part."""
    await gate.serve_api(says_who)
    await gate.joined()
    client = await gate.client()
    client.send(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok" % path.encode())

    assert await client.answer() == (200, b"ok")
    assert not gate.control.asks


async def test_the_wrong_method_on_an_inference_route_takes_no_lease(gate: Gateway) -> None:
    """GET /api/generate is a 405, which the control process knows."""
    await gate.serve_api(says_who)
    client = await gate.client()
    client.send(b"GET /api/generate HTTP/1.1\r\nHost: x\r\n\r\n")

    assert await client.answer() == (200, b"")


async def test_head_has_no_body_but_its_length(gate: Gateway) -> None:
    """And the next request on the connection is answered."""

    async def by_method(connection: Connection, head: bytes, body: bytes) -> None:
        await connection.send(JSON_HEAD % 17, b"" if head.startswith(b"HEAD") else b"Ollama is running")

    await gate.serve_api(by_method)
    client = await gate.client()
    client.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")

    head = await client.head()

    assert b"Content-Length: 17\r\n" in head
    assert await client.answer() == (200, b"Ollama is running")


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_a_body_end_with_their_head(gate: Gateway, status: int) -> None:
    """The connection stays."""

    async def empty(connection: Connection, head: bytes, body: bytes) -> None:
        await connection.send(b"HTTP/1.1 %d X\r\nX: y\r\n\r\n" % status)

    await gate.serve_api(empty)
    client = await gate.client()
    for _ in range(2):
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.head()).startswith(b"HTTP/1.1 %d X\r\n" % status)


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_large_upload_streams_through(gate: Gateway, *, chunked: bool) -> None:
    """With a length and in chunks: every byte, and the worker never holds more than a little of it."""
    piece, count = bytes(range(256)) * 2**12, 64
    seen = hashlib.sha256()
    held: list[int] = []

    async def hashes(connection: Connection) -> None:
        await connection.reader.readuntil(b"\r\n\r\n")
        left = len(piece) * count
        while left:
            if chunked:
                length = int(await connection.reader.readline(), 16)
                data = (await connection.reader.readexactly(length + 2))[:length]
            else:
                data = await connection.reader.read(2**20)
            seen.update(data)
            left -= len(data)
            held.append(upstream_of(gate).get_write_buffer_size())
        await connection.send(answer(201, b""))

    await gate.serve_raw_api(hashes)
    client = await gate.client()
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % (len(piece) * count)
    client.send(b"POST /api/blobs/x HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n\r\n")
    for _ in range(count):
        client.send(chunk(piece) if chunked else piece)
        await client.writer.drain()
    client.send(LAST_CHUNK if chunked else b"")

    assert (await client.answer())[0] == 201
    assert seen.digest() == hashlib.sha256(piece * count).digest()
    assert max(held) < 2**20


def upstream_of(gate: Gateway) -> asyncio.Transport:
    exchange = next(iter(gate.edge._clients)).exchange
    assert isinstance(exchange, Passage)
    assert exchange._upstream is not None
    assert exchange._upstream.transport is not None
    return exchange._upstream.transport


async def test_an_upload_that_nobody_reads_is_not_read_either(gate: Gateway) -> None:
    """The client is held back; it is not the worker's memory that fills."""
    reading: list[Connection] = []

    async def waits(connection: Connection) -> None:
        await connection.reader.readuntil(b"\r\n\r\n")
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]  # typed as a WriteTransport
        reading.append(connection)
        await until(lambda: False, "for ever")

    await gate.serve_raw_api(waits)
    client = await gate.client()
    client.send(b"POST /api/blobs/x HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
    await until(lambda: reading, "the head has arrived")
    client.send(bytes(30_000_000))
    downstream = next(iter(gate.edge._clients))

    await until(lambda: downstream._read_paused, "the client is held back")

    assert upstream_of(gate).get_write_buffer_size() < 2**20
    assert client.writer.transport.get_write_buffer_size() > 2**20


async def test_an_answer_may_come_before_the_request_has_ended(gate: Gateway) -> None:
    """Ollama answers an upload of a blob that it has at once; the client gets to read it, and the connection ends."""

    async def early(connection: Connection) -> None:
        await connection.reader.readuntil(b"\r\n\r\n")
        await connection.send(answer(200, b"known"))
        await connection.ended()

    await gate.serve_raw_api(early)
    client = await gate.client()
    client.send(b"POST /api/blobs/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + bytes(1000))

    head = await client.head()
    client.send(bytes(100_000))

    assert b"Connection: close\r\n" in head
    assert await client.rest() == b"known"


async def test_a_client_that_leaves_ends_the_request_to_the_control_process(gate: Gateway) -> None:
    """In the middle of an answer."""
    ended: list[bool] = []

    async def streams(connection: Connection) -> None:
        await connection.reader.readuntil(b"\r\n\r\n")
        await connection.send(NDJSON_HEAD)
        await connection.ended()
        ended.append(True)

    await gate.serve_raw_api(streams)
    client = await gate.client()
    client.send(b"POST /api/pull HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    await client.head()

    client.leave()

    await until(lambda: ended, "the control process sees it")


async def test_a_control_process_that_comes_back_soon_is_waited_for(gate: Gateway) -> None:
    """It is being restarted: the request, its body included, is answered as soon as it listens."""
    client = await gate.client()
    client.send(b"POST /api/show HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
    await until(lambda: any(isinstance(c.exchange, Passage) for c in gate.edge._clients), "it is waiting")

    await gate.serve_api(says_who)

    assert await client.answer() == (200, b"{}")


async def test_a_control_process_that_does_not_come_back_is_a_503(gate: Gateway) -> None:
    """In the client's dialect, with Retry-After."""
    client = await gate.client()
    client.send(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
    await until(lambda: any(isinstance(c.exchange, Passage) for c in gate.edge._clients), "it is waiting")
    exchange = next(iter(gate.edge._clients)).exchange
    assert isinstance(exchange, Passage)
    exchange._deadline = 0.0

    head = await client.head()

    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 1\r\n" in head
    assert b'"error":{"message":' in await client.reader.readuntil(b"}}")


@pytest.mark.parametrize(
    ("request_", "status"),
    [(b"GET /api/tags HTTP/1.1\r\nHost: x\r\n\r\n", 200), (b"DELETE /api/delete HTTP/1.1\r\nHost: x\r\n\r\n", 503)],
)
async def test_a_listing_is_asked_for_again_where_the_control_process_was_killed_over_it(
    gate: Gateway, request_: bytes, status: int
) -> None:
    """Once, and nothing that may have changed something."""
    heads: list[bytes] = []

    async def dies_first(connection: Connection) -> None:
        heads.append(await connection.reader.readuntil(b"\r\n\r\n"))
        await connection.send(JSON_HEAD % 2 + b"{}" if len(heads) > 1 else b"")

    await gate.serve_raw_api(dies_first)
    client = await gate.client()
    client.send(request_)

    assert (await client.answer())[0] == status
    assert len(heads) == (2 if status == 200 else 1)


@pytest.mark.parametrize(
    ("sent", "got"),
    [(b"", b"HTTP/1.1 503 "), (b"nonsense\r\n\r\n", b"HTTP/1.1 503 "), (JSON_HEAD % 100 + b"half", b"HTTP/1.1 200 ")],
)
async def test_a_control_process_that_fails_is_seen_to(gate: Gateway, sent: bytes, got: bytes) -> None:
    """Before its answer: a 503. In the middle: the connection ends before the answer does."""

    async def fails(connection: Connection) -> None:
        await connection.reader.readuntil(b"\r\n\r\n")
        await connection.send(sent)

    await gate.serve_raw_api(fails)
    client = await gate.client()
    client.send(b"GET /api/tags HTTP/1.1\r\nHost: x\r\n\r\n")

    head = await client.head()

    assert head.startswith(got)
    if got.endswith(b"200 "):
        assert await client.rest() == b"half"


async def test_a_slow_client_slows_the_control_process(gate: Gateway) -> None:
    """What it streams is not collected here, and all of it arrives."""
    piece, count = bytes(2**16), 300
    written = [0]

    async def floods(connection: Connection) -> None:
        await connection.reader.readuntil(b"\r\n\r\n")
        await connection.send(JSON_HEAD % (len(piece) * count))
        for _ in range(count):
            await connection.send(piece)
            written[0] += 1

    await gate.serve_raw_api(floods)
    client = await gate.client(limit=2**16)
    client.send(b"GET /api/tags HTTP/1.1\r\nHost: x\r\n\r\n")
    await client.head()
    await until(lambda: next(iter(gate.edge._clients)).write_paused, "it is held back")

    assert next(iter(gate.edge._clients)).transport.get_write_buffer_size() < 2**20
    assert written[0] < count
    await client.exactly(piece * count)


async def test_an_upload_may_begin_before_the_control_process_is_there(gate: Gateway) -> None:
    """Its first chunks wait with it, and it is held back meanwhile."""
    client = await gate.client()
    client.send(b"POST /api/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"one"))
    await until(lambda: any(c._read_paused for c in gate.edge._clients), "it is held back")
    client.send(chunk(b"two") + LAST_CHUNK)

    await gate.serve_api(says_who)

    assert await client.answer() == (200, b"onetwo")


async def test_a_whole_upload_may_wait_for_the_control_process(gate: Gateway) -> None:
    """Its end waits with it."""
    client = await gate.client()
    client.send(b"POST /api/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"one") + LAST_CHUNK)
    await until(lambda: any(isinstance(c.exchange, Passage) for c in gate.edge._clients), "it is waiting")

    await gate.serve_api(says_who)

    assert await client.answer() == (200, b"one")


async def test_a_client_may_leave_while_the_control_process_is_away(gate: Gateway) -> None:
    """Nothing goes on trying for it."""
    client = await gate.client()
    client.send(b"GET /api/tags HTTP/1.1\r\nHost: x\r\n\r\n")
    await until(lambda: gate.edge.worker._tasks, "it is waiting")

    client.leave()

    await until(lambda: not gate.edge.worker._tasks, "nobody waits")


async def test_a_broken_upload_cannot_change_an_answer_that_has_begun(gate: Gateway) -> None:
    """The answer is cut off, not continued with a refusal."""

    async def early(connection: Connection) -> None:
        await connection.reader.readuntil(b"\r\n\r\n")
        await connection.send(JSON_HEAD % 100 + b"{")
        await connection.ended()

    await gate.serve_raw_api(early)
    client = await gate.client()
    client.send(b"POST /api/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    await client.head()

    client.send(b"nonsense\r\n")

    assert await client.rest() == b"{"


async def test_a_gateway_that_ends_says_so(gate: Gateway) -> None:
    """Also to those who wait for the control process."""
    client = await gate.client()
    client.send(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
    await until(lambda: any(isinstance(c.exchange, Passage) for c in gate.edge._clients), "it is waiting")

    assert await gate.edge.drain(0) == 1

    answer = await client.rest()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"the gateway is shutting down" in answer
