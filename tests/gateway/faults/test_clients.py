"""An official client, unmodified: it raises for what is not whole, and does not hang."""

import asyncio
from collections.abc import Callable

import httpx
import ollama
import pytest

from tests.gateway.edge.harness import Connection, Gateway
from tests.gateway.faults.speech import SPEECHES
from tests.gateway.faults.table import Does, begins, closes, cut_in_chunk, resets, says

CHAT = SPEECHES["/api/chat"]
MESSAGES = [{"role": "user", "content": "hi"}]


async def chat(gate: Gateway, *, stream: bool, came: Callable[[], None] = lambda: None) -> str:
    """The words that ollama-python gets."""
    words = ""
    async with ollama.AsyncClient(f"http://127.0.0.1:{gate.port}") as client:
        if not stream:
            return (await client.chat("tiny", MESSAGES)).message.content or ""
        async for part in await client.chat("tiny", MESSAGES, stream=True):
            words += part.message.content or ""
            came()
    return words


async def cut_after_a_word(gate: Gateway, does: Does) -> None:
    """Asks for a stream whose host does something once its first word is there."""
    came = asyncio.Event()

    async def run(connection: Connection, _head: bytes, _body: bytes) -> None:
        await begins(connection, CHAT, True)
        await asyncio.wait_for(came.wait(), 10)
        await does(connection, CHAT, True)

    await gate.add("gpu1", run)
    await gate.joined()
    await chat(gate, stream=True, came=came.set)


async def test_a_stream_that_is_cut_between_lines_raises_the_gateway_s_error(gate: Gateway) -> None:
    """It names the host and says that the answer is not complete."""
    with pytest.raises(ollama.ResponseError, match=r"^gpu1: it ended the connection, the answer is not complete"):
        await cut_after_a_word(gate, closes)


async def test_a_stream_that_is_cut_in_a_line_raises_too(gate: Gateway) -> None:
    """As a connection that broke."""
    with pytest.raises(httpx.RemoteProtocolError):
        await cut_after_a_word(gate, cut_in_chunk)


@pytest.mark.parametrize(("does", "status"), [(resets, 503), (says(500, b'{"error":"option"}'), 500)])
@pytest.mark.parametrize("stream", [True, False])
async def test_an_error_before_the_answer_has_its_status(
    gate: Gateway, does: Does, status: int, *, stream: bool
) -> None:
    """Streaming or not."""

    async def run(connection: Connection, _head: bytes, _body: bytes) -> None:
        await does(connection, CHAT, stream)

    await gate.add("gpu1", run)
    await gate.joined()

    with pytest.raises(ollama.ResponseError) as raised:
        await chat(gate, stream=stream)

    assert raised.value.status_code == status
