import asyncio
import hashlib

from tests.gateway.edge.harness import LAST_CHUNK, NDJSON_HEAD, Connection, Gateway, chunk, post, until


async def test_a_slow_client_slows_its_backend_and_fills_no_memory(gate: Gateway) -> None:
    """100 MB for a client that does not read: the backend is held back, and all of it arrives once the client reads."""
    line, count = b'{"x":"' + b"y" * 65_000 + b'"}\n', 1500
    sent = [0]

    async def floods(connection: Connection, head: bytes, body: bytes) -> None:
        await connection.send(NDJSON_HEAD)
        for _ in range(count):
            await connection.send(chunk(line))
            sent[0] += 1
        await connection.send(LAST_CHUNK)

    await gate.add("gpu1", floods)
    await gate.joined()
    client = await gate.client(limit=2**16)
    client.send(post())
    await client.head()
    downstream = next(iter(gate.edge._clients))
    await until(lambda: downstream.write_paused, "the worker feels that nobody reads")
    # What the kernel's buffers take is not ours to bound; once they are full nothing moves.
    before = -1
    while before != sent[0]:
        before = sent[0]
        await asyncio.wait_for(asyncio.gather(*[turn() for _ in range(20)]), 5)

    assert sent[0] < count
    assert downstream.transport.get_write_buffer_size() < 2**20

    seen, wanted = hashlib.sha256(), hashlib.sha256(chunk(line) * count + LAST_CHUNK)
    left = len(chunk(line)) * count + len(LAST_CHUNK)
    while left:
        data = await asyncio.wait_for(client.reader.read(2**16), 10)
        assert data
        assert downstream.transport.get_write_buffer_size() < 2**20
        seen.update(data)
        left -= len(data)
    assert seen.digest() == wanted.digest()
    await until(lambda: gate.control.outcomes == ["served"], "the lease ends")


async def turn() -> None:
    """A little time for everybody: as long as a round trip through the loop's timers."""
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, event.set)
    await event.wait()


async def test_a_slow_client_holds_up_nobody_else(gate: Gateway) -> None:
    """While one does not read, others on the same worker and backend are served."""

    async def floods(connection: Connection, head: bytes, body: bytes) -> None:
        if b"flood" in body:
            await connection.send(NDJSON_HEAD, *[chunk(b"z" * 65_000)] * 400)
        else:
            await connection.send(NDJSON_HEAD, chunk(b"{}\n"), LAST_CHUNK)

    await gate.add("gpu1", floods)
    await gate.joined()
    slow = await gate.client(limit=2**16)
    slow.send(post(body=b'{"model":"tiny","prompt":"flood"}'))
    await slow.head()
    await until(lambda: any(client.write_paused for client in gate.edge._clients), "one is held back")

    for _ in range(20):
        other = await gate.client()
        other.send(post())
        assert await other.answer() == (200, b"{}\n")


async def test_a_slow_client_that_leaves_frees_its_backend(gate: Gateway) -> None:
    """Also while both sides stand still."""

    async def floods(connection: Connection, head: bytes, body: bytes) -> None:
        await connection.send(NDJSON_HEAD, *[chunk(b"z" * 65_000)] * 400)

    node = await gate.add("gpu1", floods)
    await gate.joined()
    slow = await gate.client(limit=2**16)
    slow.send(post())
    await slow.head()
    await until(lambda: any(client.write_paused for client in gate.edge._clients), "it is held back")

    slow.leave()

    await until(lambda: node.closed == 1, "the backend sees it")
    await until(lambda: gate.control.outcomes == ["left"], "the lease ends")
