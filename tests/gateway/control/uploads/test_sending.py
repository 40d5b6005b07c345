"""What is made of the bytes that a server answers an upload with."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from olladist.gateway.control.uploads.sending import _answer, send
from olladist.gateway.control.upstreams import Answered, Failed
from tests.gateway.control.nodes import Node

WRONG = b'HTTP/1.1 400 Bad\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n3\r\n":1\r\n1\r\n}\r\n0\r\n\r\n'


def heard(*pieces: bytes) -> Answered:
    async def listen() -> Answered:
        reader = asyncio.StreamReader()
        for piece in pieces:
            reader.feed_data(piece)
        reader.feed_eof()
        return await _answer(reader)

    return asyncio.run(listen())


def test_an_answer_is_read_to_its_end() -> None:
    """How is told in test_response_reader.py."""
    assert heard(WRONG[:40], WRONG[40:]) == Answered(400, "application/json", b'{"a":1}')
    with pytest.raises(Failed, match="before its answer was whole"):
        heard(WRONG[:-1])


async def test_nobody_listens() -> None:
    """Failed, not an error of the system, which no caller would take."""
    node = Node()
    await node.start()
    await node.stop()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"

    for backend in (node.backend(), replace(node.backend(), address=f"{'x' * 64}:1")):
        with pytest.raises(Failed, match="no connection"):
            await send(backend, "/api/blobs/x", pieces(), 1)
