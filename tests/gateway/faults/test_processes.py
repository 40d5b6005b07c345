"""The gateway's own processes are killed while it serves every protocol at once."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator

import pytest

from tests.gateway.edge.harness import Connection, until
from tests.gateway.faults.speech import SPEECHES, End, Seen, see
from tests.gateway.faults.table import HALF, begins, pauses
from tests.gateway.launching import Running, launched

KINDS = [(speech, stream) for speech in SPEECHES.values() for stream in (True, False)]


class Busy:
    """A gateway before one host, with an answer begun in each protocol, streaming and not."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.go_on = asyncio.Event()
        self.begun = 0
        self.answers: list[asyncio.Task[Seen]] = []
        others = running.ollama.node.script

        async def script(connection: Connection, head: bytes, body: bytes) -> None:
            speech = SPEECHES.get(head.split()[1].decode())
            if speech is None:
                await others(connection, head, body)
                return
            stream = json.loads(body)["stream"]
            await begins(connection, speech, stream)
            await self.go_on.wait()
            await pauses(connection, speech, stream)

        running.ollama.node.script = script

    async def ask_all(self) -> None:
        """Returns when the beginnings of all answers have reached their clients."""
        wanted = self.begun + len(KINDS)
        for speech, stream in KINDS:
            client = await self.running.client()
            client.send(speech.request(stream=stream).replace(b"Host: gateway", b"Host: localhost"))
            size = len(speech.line) if stream else HALF
            self.answers.append(asyncio.create_task(see(client, self._came(size))))
        await until(lambda: self.begun == wanted, "all have begun")

    def _came(self, size: int) -> "Began":
        return Began(self, size)

    async def all_seen(self) -> list[Seen]:
        return list(await asyncio.gather(*self.answers))


class Began:
    """Counts an answer once, when so much of it has come."""

    def __init__(self, busy: Busy, size: int) -> None:
        self._busy = busy
        self._size = size

    def __call__(self, body: bytes) -> None:
        if self._size and len(body) >= self._size:
            self._size = 0
            self._busy.begun += 1


@pytest.fixture
async def busy() -> AsyncIterator[Busy]:
    async with launched() as running:
        made = Busy(running)
        try:
            await made.ask_all()
            yield made
        finally:
            made.go_on.set()


async def test_a_killed_control_process_costs_no_answer(busy: Busy) -> None:
    """All that had begun ends whole, and so does what is asked while it is away."""
    killed = busy.running.child("olladist.gateway.control")
    os.kill(killed, signal.SIGKILL)
    await busy.ask_all()

    busy.go_on.set()

    seen = await busy.all_seen()
    assert [one.end for one in seen] == [End.WHOLE] * len(KINDS) * 2
    assert [one.body for one in seen] == [speech.body(stream=stream) for speech, stream in KINDS] * 2


async def test_a_killed_worker_leaves_no_answer_that_looks_whole(busy: Busy) -> None:
    """Each client sees its connection end too early; its next request is served."""
    os.kill(busy.running.child("olladist.gateway.edge"), signal.SIGKILL)

    seen = await busy.all_seen()

    assert [one.end for one in seen] == [End.CUT] * len(KINDS)
    busy.answers.clear()
    await busy.ask_all()
    busy.go_on.set()
    assert [one.end for one in await busy.all_seen()] == [End.WHOLE] * len(KINDS)
