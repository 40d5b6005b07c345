"""An edge worker among real sockets: a control process that speaks lease.py, backends that send scripted bytes, raw clients."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from olladist.gateway.edge.process import Edge
from olladist.gateway.lease import (
    Access,
    Ask,
    Backend,
    Done,
    Grant,
    Hello,
    Keep,
    Recall,
    Recalled,
    Refuse,
    Table,
    Tally,
    ToControl,
    Unpacker,
    Use,
    Used,
    pack,
)
from olladist.gateway.port import bound
from olladist.gateway.settings import Settings

MODEL = "registry.ollama.ai/library/tiny:latest"
PROMPT = b'{"model":"tiny","prompt":"hi"}'

JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n\r\n"
NDJSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
SSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
BUSY = b'{"error":"server busy, please try again.  maximum pending requests exceeded"}'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def answer(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        status,
        len(body),
        body,
    )


def post(path: str = "/api/generate", body: bytes = PROMPT, extra: bytes = b"") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: gateway\r\nContent-Length: %d\r\n%b\r\n%b" % (
        path.encode(),
        len(body),
        extra,
        body,
    )


async def until(condition: Callable[[], object], what: str, seconds: float = 10) -> None:
    """Returns once `condition` holds; every turn of the loop may have made it so."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    turn = asyncio.Event()
    while not condition():
        assert loop.time() < deadline, f"not within {seconds} s: {what}"
        turn.clear()
        loop.call_later(0.002, turn.set)
        await turn.wait()


@dataclass
class Connection:
    """A backend's side of one connection, for scripts."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self) -> tuple[bytes, bytes]:
        """Head and body of the next request; raises IncompleteReadError at the end."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        found = re.search(rb"(?i)content-length: *(\d+)", head)
        if found:
            return head, await self.reader.readexactly(int(found[1]))
        body = b""
        while b"transfer-encoding: chunked" in head.lower():
            size = int(await self.reader.readline(), 16)
            body += (await self.reader.readexactly(size + 2))[:size]
            if not size:
                break
        return head, body

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    def reset(self) -> None:
        self.writer.transport.abort()

    async def ended(self) -> None:
        """Returns when the other side has closed, whichever way."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


Script = Callable[[Connection, bytes, bytes], Awaitable[None]]


@dataclass
class Node:
    """An Ollama whose answer to each request is a script."""

    name: str
    script: Script
    requests: list[tuple[bytes, bytes]] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    closed: int = 0
    address: str = ""
    role: str = "node"
    server: asyncio.Server | None = None

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**22)
        self.address = f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        self.connections.append(connection)
        try:
            while True:
                head, body = await connection.request()
                self.requests.append((head, body))
                await self.script(connection, head, body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.closed += 1
            writer.close()

    async def stop(self) -> None:
        if self.server is not None:
            self.server.close()
            for connection in self.connections:
                connection.reset()


async def says_who(connection: Connection, head: bytes, body: bytes) -> None:
    """Answers with what it was sent, so that a mix-up would show."""
    await connection.send(JSON_HEAD % len(body), body)


class Control:
    """The control process as workers see it; `decide` is its policy, None leaves an Ask without an answer."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.nodes: list[Node] = []
        self.down: set[str] = set()
        self.models: tuple[str, ...] = (MODEL,)
        self.access = Access()
        self.hellos: list[Hello] = []
        self.asks: list[Ask] = []
        self.dones: list[Done] = []
        self.used: list[Use] = []
        self.tallies: list[Tally] = []
        self.keeps: list[Keep] = []
        self.recalled = 0
        self.mode = "distributed"
        self.late = False
        self.decide: Callable[[Ask], Grant | Refuse | None] = self.first_untried
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    def first_untried(self, ask: Ask) -> Grant | Refuse:
        for number, node in enumerate(self.nodes):
            if not ask.only and number not in ask.tried and node.name not in self.down:
                return Grant(ask.id, number)
        return Refuse(ask.id, 503, "no host is left", 1)

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        unpacker = Unpacker[ToControl](ToControl)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                for message in unpacker.feed(data):
                    self._received(message, writer)
        writer.close()

    def _received(self, message: ToControl, writer: asyncio.StreamWriter) -> None:
        if isinstance(message, Hello):
            self.hellos.append(message)
            writer.write(pack(self.access) + pack(self.table()))
        elif isinstance(message, Done):
            self.dones.append(message)
        elif isinstance(message, Used):
            self.used += message.uses
        elif isinstance(message, Keep):
            self.keeps.append(message)
        elif isinstance(message, Recalled):
            self.recalled += 1
        elif isinstance(message, Tally):
            self.tallies.append(message)
        elif isinstance(message, Ask):
            self.asks.append(message)
            decision = self.decide(message)
            if decision is not None:
                writer.write(pack(decision))

    def table(self) -> Table:
        rows = tuple(
            Backend(number, node.name, node.address, 1, node.name not in self.down, self.models, node.role)
            for number, node in enumerate(self.nodes)
        )
        return Table(1, self.mode, rows, self.late)

    def push(self) -> None:
        for writer in self._writers:
            writer.write(pack(self.access) + pack(self.table()))

    def recall(self, *leases: int) -> None:
        """Followed by an Access, so that one can see that it was read."""
        for writer in self._writers:
            writer.write(pack(Recall(leases)) + pack(self.access))

    def grant(self, number: int) -> None:
        """Answers the last Ask late."""
        for writer in self._writers:
            writer.write(pack(Grant(self.asks[-1].id, number)))

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        Path(self.path).unlink(missing_ok=True)

    @property
    def outcomes(self) -> list[str]:
        return [done.outcome for done in self.dones]


class Client:
    """A raw client; everything that came is in `got`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> bytes:
        async with asyncio.timeout(10):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def answer(self) -> tuple[int, bytes]:
        """Status and body of one answer that has a length or is chunked."""
        head = await self.head()
        status = int(head.split()[1])
        found = re.search(rb"(?i)content-length: *(\d+)", head)
        async with asyncio.timeout(10):
            if found:
                return status, await self.reader.readexactly(int(found[1]))
            body = b""
            while True:
                size = int(await self.reader.readline(), 16)
                body += (await self.reader.readexactly(size + 2))[:size]
                if not size:
                    return status, body

    async def exactly(self, data: bytes) -> None:
        """Waits for bytes that must be these."""
        async with asyncio.timeout(10):
            assert await self.reader.readexactly(len(data)) == data

    async def until(self, end: bytes) -> bytes:
        """What comes until that has come, with it."""
        async with asyncio.timeout(10):
            return await self.reader.readuntil(end)

    async def rest(self) -> bytes:
        """Everything until the connection ends, whichever way."""
        got = b""
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                while data := await self.reader.read(65536):
                    got += data
        return got

    def leave(self) -> None:
        self.writer.transport.abort()


class Gateway:
    """The worker under test with everything around it."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        self.settings = settings
        self.control = Control(settings.lease_socket)
        self.api = Node("control", says_who)
        self.edge = Edge(7, settings, asyncio.get_running_loop())
        # A worker has been told who may come in before it listens, but for tests about just that.
        self.edge.worker.leases.access = Access()
        self.port = 0
        self._clients: list[Client] = []

    async def start(self) -> None:
        sock = bound("127.0.0.1", 0)
        self.port = cast("int", sock.getsockname()[1])
        self.edge.start()
        await self.edge.serve(sock)

    async def add(self, name: str, script: Script = says_who) -> Node:
        node = Node(name, script)
        await node.start()
        self.control.nodes.append(node)
        return node

    def counted(self, event: str) -> int:
        """What the worker has told of it, once a second, and what it has not told yet."""
        return sum(tally.counts.get(event, 0) for tally in self.control.tallies) + self.edge.worker.counts[event]

    async def joined(self) -> None:
        """Starts the control process and waits until the worker has its table."""
        known = len(self.control.hellos)
        await self.control.start()
        await until(
            lambda: len(self.control.hellos) > known and self.edge.worker.backends.mode, "the worker has a table"
        )
        await until(
            lambda: len(tuple(self.edge.worker.backends)) == len(self.control.nodes), "the worker knows all nodes"
        )

    async def client(self, *, limit: int = 2**24) -> Client:
        """`limit` bounds what it reads ahead of its test."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=limit)
        client = Client(reader, writer)
        self._clients.append(client)
        return client

    async def serve_api(self, script: Script) -> Node:
        """A control process' application on api.sock."""
        node = Node("control", script)
        node.server = await asyncio.start_unix_server(node._serve, self.settings.api_socket, limit=2**22)
        self.api = node
        return node

    async def serve_raw_api(self, handle: Callable[[Connection], Awaitable[None]]) -> None:
        """One that reads its connections itself."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await handle(Connection(reader, writer))
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        self.api.server = await asyncio.start_unix_server(serve, self.settings.api_socket, limit=2**22)

    async def control_turns(self) -> None:
        """Returns when the control process has heard something that was said after this was called: a round trip for everybody."""
        known = len(self.control.dones)
        client = await self.client()
        client.send(post())
        assert (await client.answer())[0] == 200
        await until(lambda: len(self.control.dones) > known, "a Done")

    async def stop(self) -> None:
        for client in self._clients:
            client.leave()
        await self.edge.drain(0)
        await self.control.stop()
        for node in (*self.control.nodes, self.api):
            await node.stop()
        await until(lambda: not self.edge._clients, "all connections are gone")


@contextlib.asynccontextmanager
async def gateway(directory: Path, **changes: object) -> AsyncIterator[Gateway]:
    # Told that it listens beyond loopback: there Ollama takes any Host, and these tests' clients say anything.
    before = Settings(str(directory), "", listen_host="0.0.0.0", listen_port=0, connect_seconds=2.0)  # noqa: S104  as said
    settings = replace(before, **changes)  # type: ignore[arg-type]  # fields of Settings
    crashes: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: crashes.append(context))
    running = Gateway(directory, settings)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()
    assert crashes == [], "an exception escaped from a callback"
