"""Real little HTTP servers that answer as an Ollama, or as badly as a test wants; and waiting for what they cause."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from olladist.gateway.control.backends import Backend
from olladist.gateway.control.watch import Pace
from olladist.inventory.model import Connection, Host

# Twenty times the real pace: a test sees in 100 ms what takes 2 s. But patient, for a machine that stands still is no host that does.
FAST = Pace(probe_every=0.1, probe_timeout=60, recheck_after=0.02, tags_every=0.2, loaded_every=0.1, listing_timeout=60)

HANG = "hang"  # never answers
CLOSE = "close"  # closes without a byte


@dataclass(frozen=True)
class Raw:
    """Bytes as they go over the wire, after which the connection is closed."""

    data: bytes


Answer = object  # a status and JSON value, Raw, HANG, CLOSE


def tag(name: str, digest: str = "a" * 64, modified_at: str = "2024-05-04T14:56:49Z") -> dict[str, Any]:
    return {
        "name": name,
        "model": name,
        "modified_at": modified_at,
        "size": 1000,
        "digest": digest,
        "details": {"format": "gguf", "family": "llama", "families": ["llama"], "parameter_size": "1B"},
    }


def loaded(name: str, digest: str = "a" * 64, expires_at: str = "2318-01-01T00:00:00Z") -> dict[str, Any]:
    row = {**tag(name, digest), "expires_at": expires_at, "size_vram": 900, "context_length": 4096}
    del row["modified_at"]
    return row


@dataclass
class Node:
    """A scripted Ollama; `answers` by path, changed by the test at any time."""

    answers: dict[str, Answer] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    bodies: list[bytes] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    port: int = 0
    path: Path | None = None
    _server: asyncio.Server | None = None
    _connections: set[asyncio.StreamWriter] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.answers = {"/api/version": (200, {"version": "0.17.4"}), "/api/ps": (200, {"models": []}), **self.answers}

    def holds(self, *rows: dict[str, Any]) -> None:
        self.answers["/api/tags"] = (200, {"models": list(rows)})

    def runs(self, *rows: dict[str, Any]) -> None:
        self.answers["/api/ps"] = (200, {"models": list(rows)})

    async def start(self) -> None:
        if self.path:
            self._server = await asyncio.start_unix_server(self._serve, self.path)
        else:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """As if its process were killed: the port is closed and so is every connection."""
        if self._server:
            self._server.close()
            self._server = None
        for _ in range(5):  # one that was just accepted is known a few turns of the loop later
            for writer in tuple(self._connections):
                writer.transport.abort()
            await asyncio.sleep(0)

    def backend(self, number: int = 0, node: str = "gpu1", slots: int = 1) -> Backend:
        host = Host(name=node, address="127.0.0.1", connection=Connection.LOCAL)
        address = f"unix:{self.path}" if self.path else f"127.0.0.1:{self.port}"
        return Backend(number, node, host, self.port or 11434, address, slots, self.path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while self._server is not None and await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._connections.discard(writer)
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, path, _ = head.split(" ", 2)
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        self.hosts.add(headers["host"])
        if length := int(headers.get("content-length", "0")):
            self.bodies.append(await reader.readexactly(length))
        self.asked[path] += 1
        answer = self.answers.get(path, (404, "404 page not found"))
        match answer:
            case Raw(data):
                writer.write(data)
                await writer.drain()
                return False
            case (status, value):
                body = json.dumps(value).encode()
                writer.write(
                    f"HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                )
                writer.write(b"" if method == "HEAD" else body)
                await writer.drain()
                return True
            case _ if answer == HANG:
                await reader.read()
        return False


@asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[None]:
    for node in nodes:
        await node.start()
    try:
        yield
    finally:
        for node in nodes:
            await node.stop()


class _Enough(Exception):
    pass


async def _stop() -> None:
    raise _Enough


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """A group whose tasks are cancelled at the end. It lives in a task of its own: fixtures begin and end in different ones."""
    opened: asyncio.Future[asyncio.TaskGroup] = asyncio.get_running_loop().create_future()
    enough = asyncio.Event()

    async def live() -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                opened.set_result(tasks)
                await enough.wait()
                tasks.create_task(_stop())
        except* _Enough:
            pass

    life = asyncio.create_task(live())
    try:
        yield await opened
    finally:
        enough.set()
        await life


async def wait_until(condition: Callable[[], bool], what: str, seconds: float = 10) -> None:
    """Returns once `condition` holds; fails naming `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.005)
