import json

import pytest

from olladist.gateway.lease import Ask, Grant, Refuse
from tests.gateway.edge.harness import (
    BUSY,
    JSON_HEAD,
    LAST_CHUNK,
    NDJSON_HEAD,
    PROMPT,
    SSE_HEAD,
    Client,
    Connection,
    Gateway,
    Node,
    Script,
    answer,
    chunk,
    post,
    says_who,
    until,
)

MISSING = b'{"error":"model \'tiny\' not found"}'
OUT_OF_MEMORY = b'{"error":"llama runner process has terminated: CUDA error: out of memory"}'


async def dies(connection: Connection, head: bytes, body: bytes) -> None:
    connection.reset()


async def closes(connection: Connection, head: bytes, body: bytes) -> None:
    connection.writer.close()


async def hangs(connection: Connection, head: bytes, body: bytes) -> None:
    await connection.ended()


async def half_a_head(connection: Connection, head: bytes, body: bytes) -> None:
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-")
    connection.reset()


async def head_alone(connection: Connection, head: bytes, body: bytes) -> None:
    await connection.send(JSON_HEAD % 2)
    connection.reset()


async def head_then_body(connection: Connection, head: bytes, body: bytes) -> None:
    await connection.send(JSON_HEAD % len(body))
    await connection.send(body[:3])
    await connection.send(body[3:])


async def garbage(connection: Connection, head: bytes, body: bytes) -> None:
    await connection.send(b"SSH-2.0-OpenSSH_9.2p1\r\n")


async def switches(connection: Connection, head: bytes, body: bytes) -> None:
    await connection.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")


async def endless_head(connection: Connection, head: bytes, body: bytes) -> None:
    await connection.send(b"HTTP/1.1 200 OK\r\n", *[b"X-Filler: " + b"x" * 1000 + b"\r\n" for _ in range(80)])


async def half_an_error(connection: Connection, head: bytes, body: bytes) -> None:
    await connection.send(b"HTTP/1.1 503 X\r\nContent-Length: 100\r\n\r\nser")
    connection.reset()


async def contradicts(connection: Connection, head: bytes, body: bytes) -> None:
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}")


async def gzips(connection: Connection, head: bytes, body: bytes) -> None:
    await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")


def says(status: int, text: bytes) -> Script:
    async def script(connection: Connection, head: bytes, body: bytes) -> None:
        await connection.send(answer(status, text))

    return script


async def asked(gate: Gateway, path: str = "/api/generate") -> tuple[int, bytes]:
    client = await gate.client()
    client.send(post(path))
    return await client.answer()


async def refusing(gate: Gateway, name: str) -> Node:
    """A host whose port nobody listens on."""
    node = await gate.add(name)
    await node.stop()
    return node


@pytest.mark.parametrize(
    "script",
    [dies, closes, half_a_head, head_alone, half_an_error, garbage, switches, endless_head, contradicts, gzips],
    ids=lambda f: f.__name__,
)
async def test_what_fails_before_an_answer_is_tried_elsewhere(gate: Gateway, script: Script) -> None:
    """The client sees one good answer, from the second host, and the first is reported as having died."""
    await gate.add("gpu1", script)
    await gate.add("gpu2")
    await gate.joined()

    assert await asked(gate) == (200, PROMPT)

    await until(lambda: gate.control.outcomes == ["died", "served"], "both leases end")
    assert [ask.tried for ask in gate.control.asks] == [(), (0,)]
    assert len({ask.id for ask in gate.control.asks}) == 2


async def test_an_answer_in_pieces_is_passed_on_whole(gate: Gateway) -> None:
    """Its head waits for the first of its body, and nothing of it is lost."""
    await gate.add("gpu1", head_then_body)
    await gate.joined()

    assert await asked(gate) == (200, PROMPT)
    assert await asked(gate) == (200, PROMPT)
    await until(lambda: gate.control.outcomes == ["served", "served"], "both leases end")
    assert [done.received for done in gate.control.dones] == [len(PROMPT)] * 2


@pytest.mark.parametrize(
    ("status", "text"), [(404, MISSING), (503, BUSY), (500, OUT_OF_MEMORY)], ids=["missing", "busy", "memory"]
)
async def test_an_answer_about_the_host_is_tried_elsewhere(gate: Gateway, status: int, text: bytes) -> None:
    """A model it has not got, a full queue, a failed load; its connection is kept, for it is well."""
    first = await gate.add("gpu1", says(status, text))
    await gate.add("gpu2")
    await gate.joined()

    assert await asked(gate) == (200, PROMPT)
    assert await asked(gate) == (200, PROMPT)

    await until(lambda: gate.control.outcomes == ["retryable", "served"] * 2, "the leases end")
    assert gate.control.dones[0].status == status
    assert len(first.connections) == 1


async def test_a_host_that_cannot_be_reached_is_passed_over(gate: Gateway) -> None:
    """Refused at once; the request goes on to the next host."""
    await refusing(gate, "gpu1")
    await gate.add("gpu2")
    await gate.joined()

    assert await asked(gate) == (200, PROMPT)

    await until(lambda: gate.control.outcomes == ["connect", "served"], "both leases end")


async def test_after_three_hosts_the_client_gets_an_answer(gate: Gateway) -> None:
    """503 in its dialect, with what was wrong at each host and Retry-After; a fourth host is not asked."""
    for name in ("gpu1", "gpu2", "gpu3"):
        await refusing(gate, name)
    fourth = await gate.add("gpu4")
    await gate.joined()
    client = await gate.client()
    client.send(post("/v1/chat/completions"))

    head = await client.head()

    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 1\r\n" in head
    message = json.loads(await client.reader.readuntil(b"}\n"))["error"]["message"]
    assert all(name in message for name in ("gpu1", "gpu2", "gpu3"))
    assert not fourth.connections


async def test_a_third_host_is_not_put_at_risk(gate: Gateway) -> None:
    """A request after which two hosts died ends there: 502, and the reason."""
    await gate.add("gpu1", dies)
    await gate.add("gpu2", closes)
    third = await gate.add("gpu3")
    await gate.joined()

    status, text = await asked(gate)

    assert status == 502
    assert "gpu1" in json.loads(text)["error"]
    assert not third.connections
    await until(lambda: gate.control.outcomes == ["died", "died"], "both leases end")


async def test_when_nobody_does_better_the_first_answer_counts(gate: Gateway) -> None:
    """All say busy: the client gets Ollama's own words, from the last host, and may go on."""
    for name in ("gpu1", "gpu2", "gpu3"):
        await gate.add(name, says(503, BUSY))
    await gate.joined()
    client = await gate.client()
    client.send(post() + post())

    head = await client.head()
    assert b"X-Ollama-Node: gpu3\r\n" in head
    await client.exactly(BUSY)
    assert await client.answer() == (503, BUSY)


async def test_when_no_other_host_is_left_the_held_answer_counts(gate: Gateway) -> None:
    """The control process refuses a second host; the first one's words are better than its."""
    await gate.add("gpu1", says(404, MISSING))
    await gate.joined()

    assert await asked(gate) == (404, MISSING)


async def test_a_refusal_after_a_failure_says_what_had_failed(gate: Gateway) -> None:
    """There is no answer to give, so the reason goes with the control process' words."""
    await gate.add("gpu1", dies)
    await gate.joined()

    status, text = await asked(gate)

    assert status == 503
    assert json.loads(text)["error"].startswith("no host is left (gpu1: ")


@pytest.mark.parametrize(("status", "text"), [(500, b'{"error":"option"}'), (404, b"404 page not found"), (403, b"")])
async def test_an_answer_about_the_request_is_final(gate: Gateway, status: int, text: bytes) -> None:
    """It passes, and no second host is asked."""
    await gate.add("gpu1", says(status, text))
    other = await gate.add("gpu2")
    await gate.joined()

    assert await asked(gate) == (status, text)
    assert not other.requests


async def test_a_long_error_passes_without_being_judged(gate: Gateway) -> None:
    """What is longer than any error of Ollama streams through."""
    text = b"out of memory" + bytes(300_000)
    await gate.add("gpu1", says(500, text))
    await gate.add("gpu2")
    await gate.joined()

    assert await asked(gate) == (500, text)


async def test_a_stale_connection_costs_nothing(gate: Gateway) -> None:
    """The host had closed an idle connection: the same host is asked on a new one, and no failure is reported."""

    used: list[Connection] = []

    async def once(connection: Connection, head: bytes, body: bytes) -> None:
        if connection in used:
            connection.reset()
            return
        used.append(connection)
        await says_who(connection, head, body)

    node = await gate.add("gpu1", once)
    other = await gate.add("gpu2")
    await gate.joined()
    for _ in range(3):
        assert await asked(gate) == (200, PROMPT)

    assert len(node.connections) == 3
    assert not other.connections
    await until(lambda: gate.control.outcomes == ["served"] * 3, "the leases end")


async def test_a_host_that_dies_twice_in_a_row_was_not_stale(gate: Gateway) -> None:
    """The new connection ends too: one death is reported, and the next host is asked."""
    calls: list[int] = []

    async def then_dies(connection: Connection, head: bytes, body: bytes) -> None:
        calls.append(1)
        await (says_who if len(calls) == 1 else dies)(connection, head, body)

    await gate.add("gpu1", then_dies)
    await gate.add("gpu2")
    await gate.joined()
    assert await asked(gate) == (200, PROMPT)
    assert await asked(gate) == (200, PROMPT)

    await until(lambda: gate.control.outcomes == ["served", "died", "served"], "the leases end")
    assert len(calls) == 3


async def test_a_host_that_is_gone_after_a_stale_connection_has_died(gate: Gateway) -> None:
    """The request had been sent, so it may have been the cause."""
    node = await gate.add("gpu1")
    await gate.add("gpu2")
    await gate.joined()
    assert await asked(gate) == (200, PROMPT)

    async def last_words(connection: Connection, head: bytes, body: bytes) -> None:
        await node.stop()

    node.script = last_words
    assert await asked(gate) == (200, PROMPT)

    await until(lambda: gate.control.outcomes == ["served", "died", "served"], "the leases end")


async def test_a_host_found_down_loses_what_has_not_begun(gate: Gateway) -> None:
    """A new table: waiting requests go elsewhere at once, streams that have begun go on."""
    streaming: list[Connection] = []

    async def first_streams(connection: Connection, head: bytes, body: bytes) -> None:
        if not streaming:
            streaming.append(connection)
            await connection.send(NDJSON_HEAD)
            return
        await connection.ended()

    node = await gate.add("gpu1", first_streams)
    await gate.add("gpu2")
    await gate.joined()
    stream, waiting = await gate.client(), await gate.client()
    stream.send(post())
    await stream.head()
    waiting.send(post())
    await until(lambda: len(node.requests) == 2, "both requests are there")

    gate.control.down = {"gpu1"}
    gate.control.push()

    assert await waiting.answer() == (200, PROMPT)
    await streaming[0].send(chunk(b"{}\n"), LAST_CHUNK)
    await stream.exactly(chunk(b"{}\n") + LAST_CHUNK)
    await until(lambda: sorted(gate.control.outcomes) == ["died", "served", "served"], "all leases end")


@pytest.mark.parametrize(
    ("path", "head", "line", "error"),
    [
        ("/api/chat", NDJSON_HEAD, b'{"message":1}\n', b'{"error":"gpu1: it ended the connection'),
        ("/v1/chat/completions", SSE_HEAD, b"data: {}\n\n", b'data: {"error":{"message":"gpu1: it ended'),
        ("/v1/messages", SSE_HEAD, b"event: ping\ndata: {}\n\n", b'event: error\ndata: {"type":"error"'),
    ],
)
@pytest.mark.parametrize("lines", [0, 2])
async def test_a_stream_that_is_cut_ends_with_an_error_line(
    gate: Gateway, path: str, head: bytes, line: bytes, error: bytes, lines: int
) -> None:
    """In the client's own protocol, as a proper chunk, properly ended; the connection then serves what the client asks next.

    Its head had promised that: a client that sends its next request on it would lose that one to a connection that closes.
    """

    async def cuts(connection: Connection, _: bytes, body: bytes) -> None:
        if not body.startswith(b'{"model":"tiny","stream"'):
            await says_who(connection, _, body)
            return
        await connection.send(head, *[chunk(line)] * lines)
        connection.writer.close()

    await gate.add("gpu1", cuts)
    other = await gate.add("gpu2")
    await gate.joined()
    client = await gate.client()
    client.send(post(path, b'{"model":"tiny","stream":true}'))

    await client.head()
    for _ in range(lines):
        await client.exactly(chunk(line))
    rest = await client.until(b"\r\n" + LAST_CHUNK)

    size, _, chunked = rest.partition(b"\r\n")
    assert chunked.startswith(error)
    assert chunked[int(size, 16) :] == b"\r\n" + LAST_CHUNK
    assert chunked[: int(size, 16)].endswith(line[line.index(b"\n") :] if path == "/api/chat" else b"\n\n")
    assert not other.requests
    await until(lambda: gate.control.outcomes == ["cut"], "the lease ends")
    client.send(post())
    assert await client.answer() == (200, PROMPT)


@pytest.mark.parametrize(
    ("sent", "stream"),
    [
        (NDJSON_HEAD + b'10\r\n{"half', True),
        (NDJSON_HEAD + chunk(b'{"half'), True),
        (NDJSON_HEAD + b"1", True),
        (NDJSON_HEAD + chunk(b"{}\n") + b"7\r\n", True),
        (JSON_HEAD % 100 + b'{"half', True),
        (JSON_HEAD % 100 + b"{}\n", True),
        (NDJSON_HEAD + chunk(b"{}\n"), False),
        (SSE_HEAD + chunk(b"data: x\n"), True),
    ],
)
async def test_an_answer_cut_where_no_line_can_follow_is_not_ended(gate: Gateway, sent: bytes, *, stream: bool) -> None:
    """The client must see that it is not whole: what came passes, and the connection closes without the end."""

    async def cuts(connection: Connection, head: bytes, body: bytes) -> None:
        await connection.send(sent)
        connection.writer.close()

    await gate.add("gpu1", cuts)
    await gate.joined()
    client = await gate.client()
    client.send(post(body=b'{"model":"tiny","stream":%b}' % (b"true" if stream else b"false")))

    head = await client.head()

    assert head
    assert await client.rest() == sent.partition(b"\r\n\r\n")[2]
    await until(lambda: gate.control.outcomes == ["cut"], "the lease ends")


async def test_an_old_client_too_gets_the_error_line(gate: Gateway) -> None:
    """HTTP/1.0 has no chunks; the line stands alone."""

    async def cuts(connection: Connection, head: bytes, body: bytes) -> None:
        await connection.send(NDJSON_HEAD, chunk(b"{}\n"))
        connection.writer.close()

    await gate.add("gpu1", cuts)
    await gate.joined()
    client = await gate.client()
    client.send(b"POST /api/generate HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(PROMPT), PROMPT))

    body = (await client.rest()).partition(b"\r\n\r\n")[2]

    assert body.startswith(b'{}\n{"error":"gpu1: ')
    assert body.endswith(b'"}\n')


async def test_a_backend_that_says_too_much_is_cut_off(gate: Gateway) -> None:
    """A second response that nobody asked for never reaches a client, nor does the connection serve again."""

    async def twice(connection: Connection, head: bytes, body: bytes) -> None:
        await connection.send(JSON_HEAD % 2 + b"{}" + JSON_HEAD % 6 + b"poison")

    node = await gate.add("gpu1", twice)
    await gate.add("gpu2")
    await gate.joined()

    assert await asked(gate) == (200, PROMPT)
    assert await asked(gate) == (200, PROMPT)
    assert len(node.connections) == 2


async def test_a_late_second_response_is_nobody_s(gate: Gateway) -> None:
    """It comes while the connection is idle: the connection ends."""
    connections: list[Connection] = []

    async def remembers(connection: Connection, head: bytes, body: bytes) -> None:
        connections.append(connection)
        await says_who(connection, head, body)

    node = await gate.add("gpu1", remembers)
    await gate.joined()
    assert await asked(gate) == (200, PROMPT)
    await connections[0].send(JSON_HEAD % 6 + b"poison")
    await until(lambda: node.closed == 1, "the idle connection is closed")

    assert await asked(gate) == (200, PROMPT)


async def test_interim_responses_are_dropped(gate: Gateway) -> None:
    """100 and 103 are between the backend and the gateway."""

    async def hints(connection: Connection, head: bytes, body: bytes) -> None:
        await connection.send(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + answer(200, b"{}")
        )

    await gate.add("gpu1", hints)
    await gate.joined()
    client = await gate.client()
    client.send(post())

    head = await client.head()

    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"Link" not in head
    await client.exactly(b"{}")


async def leave(client: Client, how: str) -> None:
    if how == "reset":
        client.leave()
    else:
        client.writer.write_eof()


@pytest.mark.parametrize("how", ["reset", "half-close"])
async def test_a_client_that_leaves_stops_the_backend(gate: Gateway, how: str) -> None:
    """Before the answer or in the middle of it: the connection to the backend closes at once, and the lease ends."""

    async def begins(connection: Connection, head: bytes, body: bytes) -> None:
        if b"stream" in body:
            await connection.send(NDJSON_HEAD)
        await connection.ended()

    node = await gate.add("gpu1", begins)
    await gate.joined()
    waiting, streaming = await gate.client(), await gate.client()
    waiting.send(post())
    streaming.send(post(body=b'{"model":"tiny","stream":true}'))
    await streaming.head()
    await until(lambda: len(node.requests) == 2, "both requests are there")

    await leave(waiting, how)
    await leave(streaming, how)

    await until(lambda: node.closed == 2, "both connections to the backend are closed")
    await until(lambda: gate.control.outcomes == ["left", "left"], "both leases end")
    assert {done.backend for done in gate.control.dones} == {0}


async def test_a_client_that_leaves_the_queue_is_taken_out(gate: Gateway) -> None:
    """The control process hears of it before it has granted anything, and a grant that crosses is ignored."""
    node = await gate.add("gpu1")
    await gate.joined()
    gate.control.decide = lambda _: None
    client = await gate.client()
    client.send(post())
    await until(lambda: gate.control.asks, "it waits")

    client.leave()

    await until(lambda: gate.control.outcomes == ["left"], "the lease ends")
    assert gate.control.dones[0].backend == -1
    gate.control.grant(0)
    gate.control.decide = gate.control.first_untried
    assert await asked(gate) == (200, PROMPT)
    assert len(node.requests) == 1


async def test_a_lease_may_come_late(gate: Gateway) -> None:
    """A request waits for its turn as long as the control process wants."""
    await gate.add("gpu1")
    await gate.joined()
    gate.control.decide = lambda _: None
    client = await gate.client()
    client.send(post())
    await until(lambda: gate.control.asks, "it waits")

    gate.control.grant(0)

    assert await client.answer() == (200, PROMPT)


async def test_a_grant_of_an_unknown_host_is_no_crash(gate: Gateway) -> None:
    """The client is asked to come again, and the lease ends."""
    await gate.add("gpu1")
    await gate.joined()

    def unknown(ask: Ask) -> Grant | Refuse:
        return Grant(ask.id, 99)

    gate.control.decide = unknown

    assert (await asked(gate))[0] == 503
    await until(lambda: gate.control.outcomes == ["connect"], "the lease ends")


async def test_what_nobody_has_is_asked_of_one_host_only(gate: Gateway) -> None:
    """Its 404 is the answer: no other host would do better."""
    first = await gate.add("gpu1", says(404, MISSING))
    second = await gate.add("gpu2")
    await gate.joined()
    gate.control.decide = lambda ask: Grant(ask.id, 0, final=True)

    assert await asked(gate) == (404, MISSING)
    assert (len(first.requests), len(second.requests)) == (1, 0)
    await until(lambda: gate.control.outcomes == ["served"], "the lease ends")
