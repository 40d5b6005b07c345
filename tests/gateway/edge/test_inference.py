import json

import pytest
import zstandard

from olladist.gateway.lease import Grant
from tests.gateway.edge.harness import (
    LAST_CHUNK,
    NDJSON_HEAD,
    PROMPT,
    SSE_HEAD,
    Connection,
    Gateway,
    answer,
    chunk,
    post,
    until,
)

ROUTES = ["/api/generate", "/api/chat", "/api/embed", "/api/embeddings"]
V1_ROUTES = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages"]
LINES = [b'{"response":"one","done":false}\n', b'{"response":"two"}\n', b'{"response":"","done":true}\n']


async def streams(connection: Connection, head: bytes, body: bytes) -> None:
    await connection.send(NDJSON_HEAD, *[chunk(line) for line in LINES], LAST_CHUNK)


@pytest.mark.parametrize("path", ROUTES + V1_ROUTES)
async def test_every_inference_route_reaches_a_backend(gate: Gateway, path: str) -> None:
    """The body arrives as it was sent, the answer as it was given, and the lease names the route."""
    node = await gate.add("gpu1")
    await gate.joined()
    client = await gate.client()

    client.send(post(path))

    assert await client.answer() == (200, PROMPT)
    assert node.requests[0][0].startswith(f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:11434\r\n".encode())
    assert node.requests[0][1] == PROMPT
    assert [(ask.model, f"/{ask.route}".replace("/v1", "")) for ask in gate.control.asks] == [
        ("tiny", path.replace("/api", "").replace("/v1", ""))
    ]


async def test_an_answer_says_who_gave_it(gate: Gateway) -> None:
    """Node and mode are in the head of every answer, the backend's own fields too."""
    await gate.add("gpu1", streams)
    await gate.joined()
    client = await gate.client()
    client.send(post())

    head = await client.head()

    assert head == (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n"
        b"X-Ollama-Node: gpu1\r\nX-Ollama-Distributed: true\r\nX-Ollama-Mode: distributed\r\n\r\n"
    )


@pytest.mark.parametrize("status", [200, 400, 404])
async def test_an_answer_says_in_which_place_it_has_waited(gate: Gateway, status: int) -> None:
    """Whatever the answer is; one that has not waited says nothing."""

    async def answers(connection: Connection, head: bytes, body: bytes) -> None:
        await connection.send(answer(status, b"{}"))

    await gate.add("gpu1", answers)
    await gate.joined()
    gate.control.decide = lambda ask: Grant(ask.id, 0, position=17) if ask.id == 1 else Grant(ask.id, 0, final=True)
    client = await gate.client()
    client.send(post())
    waited = await client.head()
    await client.exactly(b"{}")
    client.send(post())

    assert b"\r\nX-Ollama-Queue-Position: 17\r\n" in waited
    assert b"Queue-Position" not in await client.head()


async def test_a_stream_passes_byte_for_byte_as_it_comes(gate: Gateway) -> None:
    """Each chunk is there before the next is written, its framing untouched, extensions and trailers included."""
    go_on: list[Connection] = []

    async def waits(connection: Connection, head: bytes, body: bytes) -> None:
        await connection.send(NDJSON_HEAD)
        go_on.append(connection)

    await gate.add("gpu1", waits)
    await gate.joined()
    client = await gate.client()
    client.send(post())
    await client.head()

    for piece in (chunk(LINES[0]), b"00013;x=y\r\n" + LINES[1] + b"\r\n", b"1", b"c\r\n" + LINES[2], b"\r\n"):
        await go_on[0].send(piece)
        await client.exactly(piece)
    await go_on[0].send(b"0\r\nTrailer: x\r\n\r\n")
    await client.exactly(b"0\r\nTrailer: x\r\n\r\n")

    await until(lambda: gate.control.outcomes == ["served"], "the lease ends")


async def test_a_lease_ends_with_the_answer_and_says_how_it_went(gate: Gateway) -> None:
    """Outcome, status, times and bytes of the body."""
    await gate.add("gpu1")
    await gate.joined()
    client = await gate.client()
    client.send(post())
    await client.answer()

    await until(lambda: gate.control.dones, "a Done")

    done = gate.control.dones[0]
    assert (done.id, done.backend, done.outcome, done.status) == (gate.control.asks[0].id, 0, "served", 200)
    assert 0 <= done.first_byte <= done.duration < 10
    assert done.received == len(PROMPT)


async def test_connections_are_kept_on_both_sides(gate: Gateway) -> None:
    """Many requests of many clients, one after the other, need one connection to the backend."""
    node = await gate.add("gpu1")
    await gate.joined()
    for _ in range(3):
        client = await gate.client()
        for _ in range(5):
            client.send(post())
            assert await client.answer() == (200, PROMPT)

    assert (len(node.connections), len(node.requests)) == (1, 15)


async def test_pipelined_requests_are_answered_in_order(gate: Gateway) -> None:
    """Twenty requests in one write, to two backends, of different kinds, with errors among them."""
    await gate.add("gpu1")
    await gate.add("gpu2")
    await gate.joined()
    bodies = [json.dumps({"model": "tiny", "prompt": str(n) * n}).encode() for n in range(20)]
    bodies[7] = b""
    client = await gate.client()

    client.send(b"".join(post(body=body) for body in bodies))

    for n, body in enumerate(bodies):
        expected = (400, b'{"error":"missing request body"}') if n == 7 else (200, body)
        assert await client.answer() == expected


async def test_a_chunked_request_arrives_with_a_length(gate: Gateway) -> None:
    """No framing of the client's gets through, only the bytes of the body."""
    node = await gate.add("gpu1")
    await gate.joined()
    client = await gate.client()

    client.send(
        b"POST /api/generate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        + chunk(PROMPT[:7])
        + chunk(PROMPT[7:])
        + b"0\r\nX: y\r\n\r\n"
    )

    assert await client.answer() == (200, PROMPT)
    head, body = node.requests[0]
    assert body == PROMPT
    assert b"chunked" not in head.lower()


async def test_an_unusual_target_is_still_the_route(gate: Gateway) -> None:
    """Absolute form, a query, and percent-escapes, which gin decodes before it routes."""
    node = await gate.add("gpu1")
    await gate.joined()
    client = await gate.client()
    for target in ("/api/generate?x=1", "/api/%67enerate", "http://gateway:1/api/generate"):
        client.send(post(target))
        assert await client.answer() == (200, PROMPT)

    assert [head.split()[1] for head, _ in node.requests] == [
        b"/api/generate?x=1",
        b"/api/%67enerate",
        b"/api/generate",
    ]


@pytest.mark.parametrize(
    ("path", "body", "status", "shown"),
    [
        ("/api/generate", b"", 400, b'{"error":"missing request body"}'),
        ("/api/chat", b"{", 400, b'{"error":"unexpected EOF"}'),
        ("/v1/chat/completions", b"{", 400, b'"type":"invalid_request_error"'),
        ("/v1/messages", b"{", 400, b'{"type":"error","error":{"type":"invalid_request_error"'),
    ],
)
async def test_a_body_that_ollama_would_refuse_needs_no_backend(
    gate: Gateway, path: str, body: bytes, status: int, shown: bytes
) -> None:
    """The answer is Ollama's, in the client's dialect, nobody is asked, and the connection stays."""
    await gate.add("gpu1")
    await gate.joined()
    client = await gate.client()

    client.send(post(path, body) + post())

    got, text = await client.answer()
    assert got == status
    assert shown in text
    assert await client.answer() == (200, PROMPT)
    assert len(gate.control.asks) == 1


async def test_a_packed_body_is_read_for_its_model_and_passed_as_it_is(gate: Gateway) -> None:
    """OpenAI's newer clients send zstd; one that unpacks to too much, or not at all, is refused."""
    packed = zstandard.compress(PROMPT)
    node = await gate.add("gpu1")
    await gate.joined()
    client = await gate.client()
    for body in (packed, zstandard.compress(bytes(21 * 2**20)), b"no zstd"):
        client.send(post("/v1/responses", body, b"Content-Encoding: zstd\r\n"))

    assert await client.answer() == (200, packed)
    assert (await client.answer())[0] == 400
    assert (await client.answer())[0] == 400
    assert len(node.requests) == 1


async def test_expect_100_continue_is_answered_before_the_body(gate: Gateway) -> None:
    """By the gateway: the backend never sees the expectation."""
    node = await gate.add("gpu1")
    await gate.joined()
    client = await gate.client()
    request = post(extra=b"Expect: 100-continue\r\n")
    client.send(request[: -len(PROMPT)])

    await client.exactly(b"HTTP/1.1 100 Continue\r\n\r\n")
    client.send(PROMPT)

    assert await client.answer() == (200, PROMPT)
    assert b"expect" not in node.requests[0][0].lower()


async def test_an_old_client_gets_no_chunks(gate: Gateway) -> None:
    """HTTP/1.0: the body ends with the connection, and holds the lines alone."""
    await gate.add("gpu1", streams)
    await gate.joined()
    client = await gate.client()
    client.send(b"POST /api/generate HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(PROMPT), PROMPT))

    head, _, body = (await client.rest()).partition(b"\r\n\r\n")

    assert b"transfer-encoding" not in head.lower()
    assert head.endswith(b"Connection: close")
    assert body == b"".join(LINES)
    await until(lambda: gate.control.outcomes == ["served"], "the lease ends")


async def test_a_body_that_ends_with_the_connection_ends_the_client_s_too(gate: Gateway) -> None:
    """A backend that neither counts nor chunks: the client is told to expect a close, and gets it."""

    async def until_close(connection: Connection, head: bytes, body: bytes) -> None:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n", b"some", b"thing")
        connection.writer.close()

    await gate.add("gpu1", until_close)
    await gate.joined()
    client = await gate.client()
    client.send(post())

    head, _, body = (await client.rest()).partition(b"\r\n\r\n")

    assert b"Connection: close" in head
    assert body == b"something"
    await until(lambda: gate.control.outcomes == ["served"], "the lease ends")


async def test_connection_close_is_honoured(gate: Gateway) -> None:
    """Said again in the answer, and done after it."""
    await gate.add("gpu1")
    await gate.joined()
    client = await gate.client()
    client.send(post(extra=b"Connection: close\r\n"))

    head, _, body = (await client.rest()).partition(b"\r\n\r\n")

    assert b"Connection: close" in head
    assert body == PROMPT


async def test_a_refusal_of_the_control_process_reaches_the_client_in_its_dialect(gate: Gateway) -> None:
    """Status, words and Retry-After; the connection stays."""
    await gate.add("gpu1")
    gate.control.down = {"gpu1"}
    await gate.joined()
    client = await gate.client()
    client.send(post("/v1/messages"))

    head = await client.head()

    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 1\r\n" in head
    assert b"\r\nX-Ollama-Distributed: true\r\n" in head
    body = await client.reader.readuntil(b"}\n")
    assert json.loads(body)["error"] == {"type": "overloaded_error", "message": "no host is left"}
    await until(lambda: gate.control.outcomes == ["served"], "the lease ends")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
async def test_a_400_of_a_backend_is_final(gate: Gateway, path: str) -> None:
    """It is about the request: no second backend is bothered, and the words pass untouched."""

    async def refuses(connection: Connection, head: bytes, body: bytes) -> None:
        await connection.send(answer(400, b'{"error":"model not found, out of memory"}'))

    await gate.add("gpu1", refuses)
    other = await gate.add("gpu2")
    await gate.joined()
    client = await gate.client()
    client.send(post(path))

    assert await client.answer() == (400, b'{"error":"model not found, out of memory"}')
    assert not other.requests


async def test_many_streams_of_one_client_type_do_not_wait_for_each_other(gate: Gateway) -> None:
    """Fifty streams stand open at once; each gets its own words when its backend says them."""
    waiting: list[tuple[Connection, bytes]] = []

    async def waits(connection: Connection, head: bytes, body: bytes) -> None:
        await connection.send(SSE_HEAD)
        waiting.append((connection, body))

    await gate.add("gpu1", waits)
    await gate.joined()
    clients = [await gate.client() for _ in range(50)]
    for n, client in enumerate(clients):
        client.send(post("/v1/chat/completions", b'{"model":"tiny","stream":true,"user":"%d"}' % n))
    for client in clients:
        await client.head()

    await until(lambda: len(waiting) == 50, "all backends were asked")
    for connection, body in reversed(waiting):
        await connection.send(chunk(b"data: " + body + b"\n\n"), LAST_CHUNK)

    for n, client in enumerate(clients):
        await client.exactly(chunk(b'data: {"model":"tiny","stream":true,"user":"%d"}\n\n' % n) + LAST_CHUNK)
