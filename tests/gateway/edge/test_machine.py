"""Never a byte to the wrong client: hypothesis decides who asks, who leaves, and what each backend does with each request, step by step."""

import asyncio
import json
import re
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.gateway.edge.harness import (
    BUSY,
    JSON_HEAD,
    LAST_CHUNK,
    NDJSON_HEAD,
    Connection,
    Gateway,
    answer,
    chunk,
    gateway,
    post,
    until,
)

TOKEN = re.compile(rb"<(\d+)\.(\d+)>")
POISON = b"<999.999>"


class Ear(asyncio.Protocol):
    """A client that only listens, and can be told to say something."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.asked = 0
        self.got = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        self.got += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None

    def asks(self, count: int, *, stream: bool) -> None:
        for _ in range(count):
            self.asked += 1
            body = {"model": "tiny", "prompt": f"<{self.number}.{self.asked}>", "stream": stream}
            if self.transport is not None:
                self.transport.write(post(body=json.dumps(body).encode()))

    def check(self) -> None:
        heard = [(int(client), int(request)) for client, request in TOKEN.findall(self.got)]
        assert {client for client, _ in heard} <= {self.number}
        assert heard == sorted(heard), "answers come in the order of the questions"
        assert all(request <= self.asked for _, request in heard)


class Waiting:
    """A request that a backend has and has not answered."""

    def __init__(self, body: bytes) -> None:
        self.who = TOKEN.search(body)[0] if TOKEN.search(body) else b""  # type: ignore[index]  # checked
        self.way: asyncio.Future[str] = asyncio.get_running_loop().create_future()


WAYS = ("whole", "stream", "half", "busy", "poison", "unasked", "garbage", "reset", "close", "cut-stream")


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = uvloop.new_event_loop()
        self.stack = AsyncExitStack()
        self.directory = TemporaryDirectory(prefix="edge-")
        self.ears: list[Ear] = []
        self.waiting: list[Waiting] = []
        self.gate: Gateway

    @initialize()
    def begin(self) -> None:
        self.loop.run_until_complete(self._begin())

    async def _begin(self) -> None:
        self.gate = await self.stack.enter_async_context(gateway(Path(self.directory.name)))
        for name in ("gpu1", "gpu2"):
            await self.gate.add(name, self._script)
        await self.gate.joined()

    async def _script(self, connection: Connection, head: bytes, body: bytes) -> None:
        waiting = Waiting(body)
        self.waiting.append(waiting)
        way, who = await waiting.way, waiting.who
        stream = NDJSON_HEAD + chunk(who + b"\n") + chunk(who + b"\n")
        sent = {
            "whole": JSON_HEAD % len(who) + who,
            "stream": stream + LAST_CHUNK,
            "half": JSON_HEAD % 1000 + who,
            "busy": answer(503, BUSY),
            "poison": JSON_HEAD % len(who) + who + JSON_HEAD % len(POISON) + POISON,
            "unasked": JSON_HEAD % len(who) + who + POISON,
            "garbage": b"HTTP/1.1 what\r\n\r\n" + POISON,
            "cut-stream": stream,
        }
        await connection.send(sent.get(way, b""))
        if way == "reset":
            connection.reset()
        elif way in {"half", "garbage", "close", "cut-stream"}:
            connection.writer.close()

    @rule()
    def somebody_comes(self) -> None:
        ear = Ear(len(self.ears))
        self.ears.append(ear)
        self.loop.run_until_complete(self.loop.create_connection(lambda: ear, "127.0.0.1", self.gate.port))

    @precondition(lambda self: self.ears)
    @rule(data=st.data(), count=st.integers(1, 3), stream=st.booleans())
    def somebody_asks(self, data: st.DataObject, count: int, stream: bool) -> None:
        data.draw(st.sampled_from(self.ears)).asks(count, stream=stream)
        self._settle()

    @precondition(lambda self: self.ears)
    @rule(data=st.data())
    def somebody_leaves(self, data: st.DataObject) -> None:
        ear = data.draw(st.sampled_from(self.ears))
        if ear.transport is not None:
            ear.transport.abort()
        self._settle()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), way=st.sampled_from(WAYS))
    def a_backend_acts(self, data: st.DataObject, way: str) -> None:
        waiting = data.draw(st.sampled_from(self.waiting), label="which")
        self.waiting.remove(waiting)
        waiting.way.set_result(way)
        self._settle()

    @invariant()
    def everybody_hears_only_what_is_theirs(self) -> None:
        for ear in self.ears:
            ear.check()

    def _settle(self) -> None:
        """Some turns of the loop, so that what was begun gets somewhere; not to its end, for that is where mistakes hide."""

        async def turns() -> None:
            for _ in range(8):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())

    def teardown(self) -> None:
        self.loop.run_until_complete(self._end())
        self.loop.close()
        self.directory.cleanup()

    async def _end(self) -> None:
        """Everything that still waits is answered; then nothing is left of any request."""
        if not hasattr(self, "gate"):
            return

        def answered() -> bool:
            while self.waiting:
                self.waiting.pop().way.set_result("whole")
            return not any(client.exchange for client in self.gate.edge._clients)

        await until(answered, "nothing is under way")
        for ear in self.ears:
            ear.check()
        assert all(not backend.running for backend in self.gate.edge.worker.backends)
        assert self.gate.edge.worker.bodies.held == 0
        await until(lambda: len(self.gate.control.dones) == len(self.gate.control.asks), "every lease has ended")
        for ear in self.ears:
            if ear.transport is not None:
                ear.transport.abort()
        await self.stack.aclose()


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
