import asyncio
import random
from itertools import pairwise

import pytest

from olladist.gateway.edge.upstream import IDLE_MAX, Pool, Upstream
from tests.gateway.edge.harness import (
    JSON_HEAD,
    LAST_CHUNK,
    NDJSON_HEAD,
    PROMPT,
    Connection,
    Gateway,
    chunk,
    post,
    says_who,
    until,
)

STREAM = NDJSON_HEAD + chunk(b'{"a":1}\n') + chunk(b'{"b":2}\n') + b"0\r\nTrailer: x\r\n\r\n"
COUNTED = JSON_HEAD % 5 + b"hello"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n" + COUNTED


@pytest.mark.parametrize("response", [STREAM, COUNTED, INTERIM], ids=["chunks", "length", "interim"])
async def test_an_answer_is_the_same_cut_anywhere(gate: Gateway, response: bytes) -> None:
    """At every byte in two, and byte by byte: the same bytes after the head, and the connections are kept."""
    body = response.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(b"\r\n\r\n")[2]
    cuts = [[cut] for cut in range(1, len(response))] + [list(range(len(response)))]
    turn = iter(cuts)

    async def cut(connection: Connection, _: bytes, __: bytes) -> None:
        edges = [0, *next(turn), len(response)]
        for start, end in pairwise(edges):
            await connection.send(response[start:end])
            await asyncio.sleep(0)  # not to wait: another turn of the loop, so that the pieces go out one by one

    node = await gate.add("gpu1", cut)
    await gate.joined()
    client = await gate.client()
    for _ in cuts:
        client.send(post())
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: application/")
        await client.exactly(body)

    assert len(node.connections) == 1


PIECES = [
    b"HTTP/1.1 ", b"200 OK", b"404 X", b"100 Continue", b"204 N", b"\r\n", b"\r\n\r\n", b"\n", b"Content-Length: 5", b"Content-Length: 0",
    b"Transfer-Encoding: chunked", b"Connection: close", b"Connection: X-A", b"5\r\nhello\r\n", b"0\r\n\r\n", b"hello", b"\x00", b"\xff" * 9, b"HTTP/1.0 200",
    NDJSON_HEAD, COUNTED, STREAM, b"Content-Type: application/x-ndjson",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_a_backend_sends_the_worker_lives(gate: Gateway, seed: int) -> None:
    """Answers made of pieces of answers: the client gets an answer or an end, never a crash, and the next request is served."""
    dice = random.Random(seed)  # noqa: S311  a repeatable test, no secret

    async def babbles(connection: Connection, head: bytes, body: bytes) -> None:
        for _ in range(dice.randrange(1, 9)):
            await connection.send(dice.choice(PIECES))
        connection.writer.close()

    await gate.add("gpu1", babbles)
    await gate.add("gpu2", says_who)
    await gate.joined()
    for _ in range(60):
        client = await gate.client()
        client.send(post(extra=b"Connection: close\r\n"))
        got = await client.rest()
        assert got == b"" or got.startswith(b"HTTP/1.1 ")

    gate.control.down = {"gpu1"}
    client = await gate.client()
    client.send(post())
    assert await client.answer() == (200, PROMPT)
    await until(lambda: len(gate.control.dones) == len(gate.control.asks), "every lease has ended")


async def test_idle_connections_end_after_a_while(gate: Gateway) -> None:
    """Those used last stay longest."""
    node = await gate.add("gpu1", says_who)
    await gate.joined()
    client = await gate.client()
    client.send(post())
    await client.answer()
    (backend,) = gate.edge.worker.backends
    idle = backend.pool.idle[0]

    gate.edge.sweep(idle.idle_since + 29)
    assert backend.pool.idle == [idle]
    gate.edge.sweep(idle.idle_since + 31)

    assert not backend.pool.idle
    await until(lambda: node.closed == 1, "the backend sees it")


class Transport(asyncio.Transport):
    """Knows only whether it was closed."""

    closed = False

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True


def test_a_pool_keeps_so_many_and_the_one_used_last_on_top() -> None:
    """The bound counts idle connections; what is over it is closed, what is closed is not kept."""
    pool = Pool()
    for number in range(IDLE_MAX + 3):
        upstream = Upstream(pool)
        upstream.connection_made(Transport())
        upstream.keep = True
        upstream.release(float(number))

    assert len(pool.idle) == IDLE_MAX
    top = pool.take()
    assert top is not None
    assert top.idle_since == IDLE_MAX - 1
    pool.close()
    assert not pool.idle
    top.keep = True
    top.release(0.0)
    assert not pool.idle
    assert pool.take() is None


async def test_a_last_chunk_alone_ends_an_answer(gate: Gateway) -> None:
    """An empty stream is a whole one."""

    async def empty(connection: Connection, head: bytes, body: bytes) -> None:
        await connection.send(NDJSON_HEAD + LAST_CHUNK)

    await gate.add("gpu1", empty)
    await gate.joined()
    client = await gate.client()
    client.send(post() * 2)

    assert await client.answer() == (200, b"")
    assert await client.answer() == (200, b"")
