import asyncio

from tests.gateway.edge.harness import LAST_CHUNK, NDJSON_HEAD, PROMPT, Connection, Gateway, chunk, post, until
from tests.gateway.edge.test_failover import hangs


async def test_draining_lets_answers_finish_and_closes_what_is_idle(gate: Gateway) -> None:
    """New connections are refused, a stream ends whole although it was begun before, and nothing is left to wait for."""
    streaming: list[Connection] = []

    async def begins(connection: Connection, head: bytes, body: bytes) -> None:
        await connection.send(NDJSON_HEAD)
        streaming.append(connection)

    await gate.add("gpu1", begins)
    await gate.joined()
    idle, stream = await gate.client(), await gate.client()
    stream.send(post())
    await stream.head()

    draining = asyncio.create_task(gate.edge.drain(100))
    assert await idle.rest() == b""
    await streaming[0].send(chunk(b"{}\n"), LAST_CHUNK)

    assert await stream.rest() == chunk(b"{}\n") + LAST_CHUNK
    assert await asyncio.wait_for(draining, 10) == 0


async def test_a_client_that_asks_on_while_draining_loses_nothing(gate: Gateway) -> None:
    """On a connection that was idle at that moment: it is answered, with the word that the connection ends."""
    await gate.add("gpu1")
    await gate.joined()
    client = await gate.client()
    client.send(post())
    assert (await client.answer())[0] == 200
    draining = asyncio.create_task(gate.edge.drain(100))
    await until(lambda: gate.edge.worker.draining, "draining")

    client.send(post())
    head, _, body = (await client.rest()).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close" in head
    assert body == PROMPT
    assert await asyncio.wait_for(draining, 10) == 0


async def test_what_does_not_end_in_time_is_told_why(gate: Gateway) -> None:
    """A request without an answer gets a 503, a stream an error line; the backends are let go."""
    node = await gate.add("gpu1", hangs)
    await gate.joined()
    waiting, half = await gate.client(), await gate.client()
    waiting.send(post("/v1/messages"))
    half.send(post()[:-3])
    await until(lambda: node.requests, "one is under way")
    await until(lambda: sum(client.exchange is not None for client in gate.edge._clients) == 2, "one is half here")

    assert await gate.edge.drain(0) == 2

    answer = await waiting.rest()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"the gateway is shutting down" in answer
    assert (await half.rest()).startswith(b"HTTP/1.1 503 ")
    await until(lambda: node.closed == 1, "the backend is let go")


async def test_a_connection_that_is_kept_takes_no_further_request_while_draining(gate: Gateway) -> None:
    """The request that is here is answered, with the word that the connection ends."""
    release: list[Connection] = []

    async def waits(connection: Connection, head: bytes, body: bytes) -> None:
        release.append(connection)

    await gate.add("gpu1", waits)
    await gate.joined()
    client = await gate.client()
    client.send(post())
    await until(lambda: release, "it is under way")
    draining = asyncio.create_task(gate.edge.drain(100))
    await until(lambda: gate.edge.worker.draining, "draining")
    await release[0].send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(PROMPT), PROMPT))

    head, _, body = (await client.rest()).partition(b"\r\n\r\n")

    assert b"Connection: close" in head
    assert body == PROMPT
    await asyncio.wait_for(draining, 10)
