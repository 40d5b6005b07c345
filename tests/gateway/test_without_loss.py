"""Whatever is done to a gateway while it serves: no connection is refused, and no answer is cut."""

import asyncio
import contextlib
import hashlib
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator

from tests.gateway.edge.harness import LAST_CHUNK, PROMPT, Client, chunk, until
from tests.gateway.launching import STREAMED, Running, alive, asking, children, launched, words

WHOLE = chunk(b"{}\n") + LAST_CHUNK
# Enough that each of them meets what is done at another moment, few enough for two cores.
CLIENTS = 6


class Load:
    """Clients that ask one thing after the other; what became of it is counted."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self.outcomes: Counter[str] = Counter()
        self.enough = False

    async def run(self, *, keeping: bool) -> None:
        """Each time on a new connection, or on the same one for as long as the gateway keeps it."""
        client: Client | None = None
        while not self.enough:
            try:
                client = client or await self._running.client()
                client.send(asking(PROMPT, b"keep-alive" if keeping else b"close"))
                head = await client.head()
                await client.exactly(PROMPT)
                self.outcomes["whole" if head.startswith(b"HTTP/1.1 200 ") else head.decode()] += 1
                kept = b"connection: close" not in head.lower()
            except (OSError, asyncio.IncompleteReadError) as error:
                self.outcomes[type(error).__name__] += 1
                kept = False
            if client and not kept:
                client.leave()
                client = None


@contextlib.asynccontextmanager
async def loaded(running: Running) -> AsyncIterator[Load]:
    """Under load for the length of the block, and a hundred requests beyond."""
    load = Load(running)
    tasks = [asyncio.create_task(load.run(keeping=n % 2 == 0)) for n in range(CLIENTS)]
    try:
        await until(lambda: load.outcomes.total() > 100, "it is under load", 20)
        yield load
        so_far = load.outcomes.total()
        await until(lambda: load.outcomes.total() > so_far + 100, "it is still served", 20)
    finally:
        load.enough = True
        await asyncio.gather(*tasks)


async def streams(running: Running, number: int) -> list[Client]:
    return [await running.stream() for _ in range(number)]


async def all_whole(streams: list[Client]) -> None:
    for stream in streams:
        await stream.exactly(WHOLE)


async def test_another_gateway_takes_over_without_loss() -> None:
    """Under load and with 50 long streams: none refused, none cut; the old one ends when its streams have."""
    async with launched(workers=2) as old, contextlib.AsyncExitStack() as stack:
        long = await streams(old, 50)
        async with loaded(old) as load:
            new = await stack.enter_async_context(old.successor(workers=3))
            assert new.said == old.said
            more = await streams(new, 5)
            assert old.process.returncode is None
            await old.ollama.finish()
            await all_whole(long)
            assert await asyncio.wait_for(old.process.wait(), 20) == signal.SIGTERM
        assert set(load.outcomes) == {"whole"}
        assert len(children(new.process.pid)) == 4
        await all_whole(more)


async def test_a_gateway_that_cannot_take_over_changes_nothing() -> None:
    """Its inventory names nobody: it says so and ends, and the one that runs never stops to serve."""
    async with launched() as old:
        stream = await old.stream()
        mine = children(old.process.pid)
        async with loaded(old) as load, old.successor(limit="nosuchhost") as new:
            assert "ended with status 2 before it was ready" in new.said
            assert await asyncio.wait_for(new.process.wait(), 20) == 1
        assert set(load.outcomes) == {"whole"}
        assert children(old.process.pid) == mine
        await old.ollama.finish()
        await stream.exactly(WHOLE)


async def test_reloads_lose_nothing() -> None:
    """Hosts come, go and change under load, and so does who gets a request; the streams of a host that leaves end as they would have."""
    async with launched(nodes=2, more='strategy = "round-robin"') as running:
        one, two = running.ollamas
        long = await streams(running, 20)
        assert one.open
        assert two.open
        async with loaded(running) as load:
            for ollamas, more in (
                ((two,), ""),
                ((one, two), 'strategy = "round-robin"'),
                ((one,), ""),
                ((two, one), ""),
            ):
                running.declare(*ollamas, more=more)
                so_far = load.outcomes.total()
                running.process.send_signal(signal.SIGHUP)
                await until(lambda so_far=so_far: load.outcomes.total() > so_far + 100, "load goes on", 20)  # type: ignore[misc]  # a default argument
        assert set(load.outcomes) == {"whole"}
        await one.finish()
        await two.finish()
        await all_whole(long)


async def test_a_killed_worker_costs_its_own_connections_alone() -> None:
    """Other workers' streams go on, and nobody is refused: what waits for the dead one is served by the next."""
    async with launched(workers=2) as running:
        long = await streams(running, 20)
        workers = [pid for pid in children(running.process.pid) if "olladist.gateway.edge" in words(pid)]
        async with loaded(running) as load:
            os.kill(workers[0], signal.SIGKILL)
            await until(lambda: not alive(workers[0]), "it is dead")
        # What the dead one had begun is cut, once for each of the clients at most.
        cut = load.outcomes.total() - load.outcomes["whole"]
        assert cut <= CLIENTS
        assert set(load.outcomes) <= {"whole", "IncompleteReadError", "ConnectionResetError"}

        await running.ollama.finish()
        rests = [await stream.rest() for stream in long]
        assert set(rests) == {b"", WHOLE}


async def test_a_killed_control_process_costs_nothing_under_load() -> None:
    """Workers place alone until the next one is there."""
    async with launched(workers=2) as running:
        long = await streams(running, 10)
        killed = running.child("olladist.gateway.control")
        async with loaded(running) as load:
            os.kill(killed, signal.SIGKILL)
            await until(lambda: running.has_another("olladist.gateway.control", killed), "a new one", 30)
        assert set(load.outcomes) == {"whole"}
        await running.ollama.finish()
        await all_whole(long)


async def test_a_killed_control_process_does_not_pour_its_queue_over_the_hosts() -> None:
    """Nobody has more than its slots, before, while it is away and after; and everybody is served."""
    async with launched(workers=2, slots=2) as running:
        clients = [await running.client() for _ in range(8)]
        for client in clients:
            client.send(asking(STREAMED))
        begun = running.ollama.open
        await until(lambda: len(begun) == 2, "two have slots")
        killed = running.child("olladist.gateway.control")
        os.kill(killed, signal.SIGKILL)
        await until(lambda: running.has_another("olladist.gateway.control", killed), "a new one", 30)
        for ended in range(8):
            await until(lambda ended=ended: len(begun) >= min(ended + 2, 8), "the next one's turn", 20)  # type: ignore[misc]  # a default binds
            assert len(begun) - ended <= 2 * 2  # each worker counts its own for as long as it is alone
            await begun[ended].send(chunk(b"{}\n"), LAST_CHUNK)
        for client in clients:
            assert (await client.head()).startswith(b"HTTP/1.1 200 ")
            await client.exactly(WHOLE)


async def test_an_upload_finishes_before_the_gateway_ends() -> None:
    """What goes through the control process is an answer as any other: it is there until the last worker is done."""
    async with launched() as running:
        blob = b"x" * 100_000
        digest = hashlib.sha256(blob).hexdigest()
        client = await running.client()
        client.send(
            b"POST /api/blobs/sha256:%b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
            % (digest.encode(), len(blob))
        )
        client.send(blob[:50_000])
        idle = await running.client()

        running.process.send_signal(signal.SIGTERM)
        assert await idle.rest() == b""
        client.send(blob[50_000:])

        status, _ = await client.answer()
        assert status == 201
        assert running.ollama.uploads == 1
        assert await asyncio.wait_for(running.process.wait(), 20) == signal.SIGTERM
