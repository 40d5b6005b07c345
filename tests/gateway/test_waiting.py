"""Requests that wait in a whole gateway, before a host with one slot that is taken: what waits with them, and what does not."""

import json
from collections.abc import AsyncIterator

import pytest

from tests.gateway.edge.harness import LAST_CHUNK, PROMPT, chunk, until
from tests.gateway.launching import Running, asking, launched


@pytest.fixture
async def busy() -> AsyncIterator[Running]:
    """An answer stands open, and three requests wait."""
    async with launched(slots=1) as running:
        await running.stream()
        for _ in range(3):
            (await running.client()).send(asking(PROMPT))
        await waits(running, 3)
        yield running
        for client in running.clients:  # so that it need not wait for them
            client.leave()


async def waits(running: Running, count: int) -> None:
    """Returns when so many do."""
    seen = -1
    while seen != count:
        client = await running.client()
        client.send(b"GET /api/distributed/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        seen = json.loads((await client.answer())[1])["waiting"]
        client.leave()


async def answers(running: Running) -> list[tuple[int, bytes]]:
    """Of all that wait, once the open one has ended."""
    await running.ollama.open[0].send(chunk(b"{}\n"), LAST_CHUNK)
    return [await client.answer() for client in running.clients[1:4]]


async def test_what_is_only_to_be_loaded_or_unloaded_does_not_wait(busy: Running) -> None:
    """No prompt, and no prompt with keep_alive 0: as from an Ollama that is busy."""
    for body in (b'{"model":"tiny","keep_alive":600}', b'{"model":"tiny","keep_alive":0}'):
        client = await busy.client()
        client.send(asking(body))
        assert (await client.answer())[0] == 200

    assert await answers(busy) == [(200, PROMPT)] * 3


async def test_a_client_waits_as_long_as_it_says(busy: Running) -> None:
    """And is told why it goes away with nothing; those who have said nothing wait on, and hear their places."""
    client = await busy.client()
    client.send(asking(PROMPT).replace(b"\r\n\r\n", b"\r\nX-Ollama-Timeout: 0.2\r\n\r\n", 1))

    status, text = await client.answer()

    assert status == 503
    assert b"X-Ollama-Timeout" in text
    assert await answers(busy) == [(200, PROMPT)] * 3


async def test_what_nobody_has_is_nothing_to_wait_for(busy: Running) -> None:
    """The host itself says so, in its own words; this one repeats what it hears."""
    client = await busy.client()
    client.send(asking(PROMPT.replace(b"tiny", b"nobody")))

    assert await client.answer() == (200, PROMPT.replace(b"tiny", b"nobody"))


async def test_a_gateway_that_ends_lets_those_who_wait_have_their_turn(busy: Running) -> None:
    """Within its grace; none of them is turned away."""
    busy.process.terminate()
    assert await answers(busy) == [(200, PROMPT)] * 3
    await until(lambda: busy.process.returncode is not None, "it has ended", 30)
