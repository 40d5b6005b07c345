"""Never a byte to the wrong client: everything at once, over few connections, with every failure there is."""

import asyncio
import json
import random

import pytest

from olladist.gateway.lease import Ask, Grant, Refuse
from tests.gateway.edge.harness import (
    BUSY,
    JSON_HEAD,
    LAST_CHUNK,
    NDJSON_HEAD,
    Client,
    Connection,
    Gateway,
    answer,
    chunk,
    post,
    until,
)

CLIENTS, REQUESTS = 24, 40


def misbehaves(dice: random.Random) -> object:
    """A backend that says whom it answers in every line, and fails in every way it can."""

    async def script(connection: Connection, head: bytes, body: bytes) -> None:
        who = json.loads(body)["prompt"].encode()
        way = dice.random()
        if way < 0.05:
            connection.reset()
        elif way < 0.08:
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Le")
            connection.reset()
        elif way < 0.12:
            await connection.send(answer(503, BUSY))
        elif way < 0.15:
            await connection.send(JSON_HEAD % 1000 + who * 3)
            connection.writer.close()
        elif way < 0.18:
            await connection.send(JSON_HEAD % len(who) + who + JSON_HEAD % 6 + b"poison")
        elif way < 0.21:
            await connection.send(JSON_HEAD % len(who) + who)
            connection.writer.close()
        elif way < 0.6:
            await connection.send(JSON_HEAD % len(who) + who)
        else:
            stream = NDJSON_HEAD + chunk(who + b"\n") * dice.randrange(20) + LAST_CHUNK
            while stream:
                size = dice.randrange(1, 200)
                await connection.send(stream[:size])
                stream = stream[size:]
                if way > 0.95:
                    connection.reset()
                    return

    return script


async def belongs(client: Client, who: bytes) -> bool:
    """Reads one answer and checks every part of it; False where it was cut and the connection with it."""
    try:
        head = await client.head()
    except (asyncio.IncompleteReadError, ConnectionError):
        return False
    status = int(head.split()[1])
    body = b""
    try:
        if b"Transfer-Encoding: chunked" in head:
            while size := int(await client.reader.readline() or b"x", 16):
                body += (await client.reader.readexactly(size + 2))[:size]
            await client.exactly(b"\r\n")
        else:
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            body = await client.reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError, ValueError):
        return False
    if status == 200:
        for line in body.splitlines():
            assert line == who or line.startswith(b'{"error":"gpu'), (line, who)
    else:
        assert status in {502, 503}, (status, body)
    assert b"poison" not in body
    return b"Connection: close" not in head and b'{"error":"gpu' not in body


async def chats(gate: Gateway, number: int, dice: random.Random) -> None:
    """One client: asks one thing after the other, now and then several ahead; sometimes it walks out."""
    client = await gate.client()
    for request in range(REQUESTS):
        asked = [f"<{number}.{request}.{n}>".encode() for n in range(dice.choice([1, 1, 1, 3]))]
        stream = dice.random() < 0.9
        client.send(b"".join(post(body=_prompt(who, stream=stream)) for who in asked))
        if dice.random() < 0.1:
            client.leave()
            client = await gate.client()
            continue
        for who in asked:
            if not await belongs(client, who):
                client.leave()
                client = await gate.client()
                break


def _prompt(who: bytes, *, stream: bool) -> bytes:
    return json.dumps({"model": "tiny", "prompt": who.decode(), "stream": stream}).encode()


@pytest.mark.parametrize("seed", range(3))
async def test_every_answer_is_to_its_own_question(gate: Gateway, seed: int) -> None:
    """Under load and failure each client gets only what was said to it, in order, and no lease is left over."""
    dice = random.Random(seed)  # noqa: S311  a repeatable test, no secret
    for name in ("gpu1", "gpu2", "gpu3", "gpu4"):
        await gate.add(name, misbehaves(dice))  # type: ignore[arg-type]  # a Script

    def anywhere(ask: Ask) -> Grant | Refuse:
        left = [number for number in range(4) if number not in ask.tried]
        if dice.random() < 0.03 or not left:
            return Refuse(ask.id, 503, "no host is left", 1)
        return Grant(ask.id, dice.choice(left))

    gate.control.decide = anywhere
    await gate.joined()

    await asyncio.gather(*[chats(gate, number, random.Random(seed * 100 + number)) for number in range(CLIENTS)])  # noqa: S311  as above

    await until(lambda: not any(client.exchange for client in gate.edge._clients), "nothing is under way")
    await until(lambda: len(gate.control.dones) == len(gate.control.asks), "every lease has ended")
    assert sorted(done.id for done in gate.control.dones) == sorted(ask.id for ask in gate.control.asks)
    assert all(not backend.running for backend in gate.edge.worker.backends)
    assert not gate.edge.worker.leases._asking
