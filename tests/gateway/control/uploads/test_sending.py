"""What is made of the bytes that a server answers an upload with."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.control.uploads.sending import _answer, send
from olladist.gateway.control.upstreams import Answered, Failed
from tests.gateway.control.nodes import Node

CREATED = b"HTTP/1.1 201 Created\r\nDate: now\r\nContent-Length: 0\r\n\r\n"
WRONG = b'HTTP/1.1 400 Bad\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n3\r\n":1\r\n1\r\n}\r\n0\r\n\r\n'


def heard(*pieces: bytes) -> Answered:
    async def listen() -> Answered:
        reader = asyncio.StreamReader()
        for piece in pieces:
            reader.feed_data(piece)
        reader.feed_eof()
        return await _answer(reader)

    return asyncio.run(listen())


@given(st.integers(0, len(WRONG)), st.sampled_from([CREATED, WRONG]))
def test_an_answer_in_any_pieces(cut: int, answer: bytes) -> None:
    """Wherever it is split."""
    whole = Answered(201, "", b"") if answer == CREATED else Answered(400, "application/json", b'{"a":1}')

    assert heard(answer[:cut], answer[cut:]) == whole


@given(st.one_of(st.binary(), st.binary().map(lambda junk: b"HTTP/1.1 200 OK\r\n" + junk)))
def test_any_bytes_are_an_answer_or_a_failure(junk: bytes) -> None:
    """Never anything else."""
    with contextlib.suppress(Failed):
        assert 200 <= heard(junk).status <= 599


@given(st.integers(0, len(WRONG) - 1))
def test_half_an_answer_is_none(cut: int) -> None:
    """A connection that ends before its answer does is a failure."""
    with pytest.raises(Failed):
        heard(WRONG[:cut])


def test_an_answer_without_an_end_is_not_kept() -> None:
    """Nobody fills our memory."""
    with pytest.raises(Failed, match="more than"):
        heard(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100_000)


async def test_nobody_listens() -> None:
    """Failed, not an error of the system, which no caller would take."""
    node = Node()
    await node.start()
    await node.stop()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"

    with pytest.raises(Failed, match="no connection"):
        await send(node.backend(), "/api/blobs/x", pieces(), 1)
