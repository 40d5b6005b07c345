"""An upload that listens while it sends: what a server says before it has read all of it is heard, and nothing more is sent.

httpx reads no answer before the last byte of a body is out (httpcore's HTTP11Connection), and gives up where that fails.
"""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator

from olladist.gateway.control.backends import Backend
from olladist.gateway.control.response_reader import ResponseReader
from olladist.gateway.control.upstreams import Answered, Failed, connecting

# The answer is empty or one line; more than this is no Ollama's.
_ANSWER_BYTES_MAX = 64 * 2**10
# Go lets an answer stand for half a second before it resets a connection that it reads no more from (net/http rstAvoidanceDelay).
_LAST_WORDS_SECONDS = 2.0
# A disk may keep Ollama from reading for some seconds, and a machine that was switched off never reads again.
_STALL_SECONDS = 60


async def send(backend: Backend, path: str, pieces: AsyncIterator[bytes], length: int | None) -> Answered:
    """POSTs a body of `length` bytes, or chunked; Failed where no answer comes. What `pieces` raise passes through."""
    async with connecting():
        reader, writer = await _connect(backend)
    answer = asyncio.ensure_future(_answer(reader))
    sending = asyncio.ensure_future(_send(writer, _head(backend, path, length), pieces, chunked=length is None))
    try:
        await asyncio.wait({answer, sending}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            try:
                await sending
            except OSError:
                # It takes no more: whatever it has said is here, or on its way.
                await asyncio.wait({answer}, timeout=_LAST_WORDS_SECONDS)
                if not answer.done():
                    raise Failed("lost the connection") from None
        return await answer
    finally:
        for task in (answer, sending):
            task.cancel()
        await asyncio.gather(answer, sending, return_exceptions=True)
        writer.transport.abort()


async def _connect(backend: Backend) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if backend.tunnel:
        return await asyncio.open_unix_connection(backend.tunnel)
    host, _, port = backend.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _STALL_SECONDS * 1000)
    return reader, writer


def _head(backend: Backend, path: str, length: int | None) -> bytes:
    host = backend.url.removeprefix("http://").rstrip("/")
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/octet-stream\r\n{framing}\r\n"
        "Connection: close\r\n\r\n"
    ).encode("ascii")


async def _send(writer: asyncio.StreamWriter, head: bytes, pieces: AsyncIterator[bytes], *, chunked: bool) -> None:
    writer.write(head)
    async for piece in pieces:
        if piece:
            writer.writelines((b"%x\r\n" % len(piece), piece, b"\r\n") if chunked else (piece,))
            await writer.drain()
    if chunked:
        writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _answer(reader: asyncio.StreamReader) -> Answered:
    response = ResponseReader(_ANSWER_BYTES_MAX)
    try:
        while data := await reader.read(65536):
            if (answered := response.feed(data)) is not None:
                return answered
    except OSError as error:
        raise Failed("lost the connection") from error
    return response.ended()
