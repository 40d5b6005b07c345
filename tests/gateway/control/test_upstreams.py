import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olladist.gateway.control.roster import Roster
from olladist.gateway.control.upstreams import LINE_BYTES_MAX, Exchange, Failed, Upstreams, fetch
from tests.gateway.control.nodes import Node

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Pieces(httpx.AsyncByteStream):
    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece


async def lines_of(*pieces: bytes) -> list[bytes]:
    return [line async for line in Exchange(httpx.Response(200, stream=Pieces(*pieces))).lines()]


@given(
    lines=st.lists(st.binary(min_size=1, max_size=9).map(lambda raw: b"{" + raw.hex().encode() + b"}"), max_size=6),
    ended=st.booleans(),
    cuts=st.lists(st.integers(0, 200), max_size=8),
)
@settings(deadline=None)
async def test_lines_come_whole_wherever_they_are_cut(lines: list[bytes], ended: bool, cuts: list[int]) -> None:
    """Chunks of the network say nothing about lines; the last line may lack its end, and empty ones are nobody's."""
    body = b"\n\r\n".join(lines) + (b"\n\n" if ended else b"")
    places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    pieces = [body[a:b] for a, b in itertools.pairwise(places)]

    assert await lines_of(*pieces) == lines


async def test_a_line_without_end_is_not_kept_for_ever() -> None:
    """What is longer than Ollama's own client takes is an answer that cannot be used."""
    with pytest.raises(Failed, match="a line of more than"):
        await lines_of(*[b"x" * 2**20] * (LINE_BYTES_MAX // 2**20 + 1))


@asynccontextmanager
async def served(serve: Serve) -> AsyncIterator[tuple[Upstreams, Node]]:
    """Clients of a backend that is `serve`."""

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(once, "127.0.0.1", 0)
    upstreams = Upstreams(Roster(time.monotonic))
    try:
        yield upstreams, Node(port=server.sockets[0].getsockname()[1])
    finally:
        await upstreams.close()
        server.close()


async def test_an_answer_that_is_cut_is_no_answer() -> None:
    """A connection that ends in the middle is told from an end."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + b"4\r\n{}\n{\r\n")

    async with (
        served(serve) as (upstreams, node),
        upstreams.stream(node.backend(), "GET", "/x") as exchange,
        aclosing(exchange.lines()) as lines,
    ):
        assert await anext(lines) == b"{}"
        with pytest.raises(Failed, match="closed the connection before its answer was whole"):
            await anext(lines)


async def test_nobody_there() -> None:
    """A port where nothing listens is a failure in words."""

    async def serve(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None: ...

    async with served(serve) as (upstreams, node):
        node.port = 1
        with pytest.raises(Failed, match="no connection"):
            async with upstreams.stream(node.backend(), "GET", "/x"):
                pass


async def test_leaving_the_block_closes_the_connection() -> None:
    """An Ollama goes on with a pull for as long as its client's connection is open."""
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + b"3\r\n{}\n\r\n")
        await reader.read()
        gone.set()

    async with served(serve) as (upstreams, node):
        async with upstreams.stream(node.backend(), "POST", "/x") as exchange, aclosing(exchange.lines()) as lines:
            assert await anext(lines) == b"{}"
            assert not gone.is_set()
        await asyncio.wait_for(gone.wait(), 10)


async def test_a_hundred_pulls_keep_no_probe_waiting() -> None:
    """Streams have their own connections, as many as there are."""
    waiting = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal waiting
        waiting += 1
        writer.write(CHUNKED if waiting <= 100 else b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await reader.read()

    async with served(serve) as (upstreams, node), contextlib.AsyncExitStack() as stack:
        backend = node.backend()
        for _ in range(100):
            await stack.enter_async_context(upstreams.stream(backend, "POST", "/api/pull", content=b"{}"))
        answer = await fetch(upstreams.client(backend), "GET", "/api/version", bytes_max=10, within=10)

        assert answer.body == b"{}"
