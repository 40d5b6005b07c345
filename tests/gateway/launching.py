"""A whole gateway in processes of its own, before scripted Ollamas."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from olladist.gateway.settings import Settings, encode
from tests.gateway.edge.harness import LAST_CHUNK, NDJSON_HEAD, PROMPT, Client, Connection, Node, answer, chunk

PARENT = """
import sys
from pathlib import Path
from olladist.errors import GatewayError
from olladist.gateway.running import find
from olladist.gateway.settings import decode
from olladist.gateway.supervisor import run
settings = decode(sys.stdin.buffer.readline())
replacing = find(Path(settings.inventory))[0] if sys.argv[1:] == ["replace"] else None
try:
    sys.exit(run(settings, lambda address: print(address, flush=True), replacing=replacing))
except GatewayError as error:
    print(error.message, error.hint, sep="; ", flush=True)
    sys.exit(1)
"""
ROW = {
    "name": "tiny:latest",
    "model": "tiny:latest",
    "modified_at": "2026-01-01T00:00:00Z",
    "size": 1,
    "digest": "a" * 64,
    "details": {},
}


STREAMED = b'{"model":"tiny","prompt":"hi","stream":true}'


class Ollama:
    """A backend whose streams stand open until the test ends them."""

    def __init__(self, name: str = "gpu1", slots: int = 100) -> None:
        self.slots = slots
        self.open: list[Connection] = []
        self.uploads = 0
        self.node = Node(name, self._script)

    async def _script(self, connection: Connection, head: bytes, body: bytes) -> None:
        path = head.split()[1]
        if path == b"/api/version":
            await connection.send(answer(200, b'{"version":"0.17.4"}'))
        elif path in {b"/api/tags", b"/api/ps"}:
            rows = [ROW | {"expires_at": ROW["modified_at"]}] if path == b"/api/tags" else []
            await connection.send(answer(200, json.dumps({"models": rows}).encode()))
        elif path.startswith(b"/api/blobs/"):
            self.uploads += head.startswith(b"POST")
            await connection.send(answer(201 if head.startswith(b"POST") else 404, b""))
        elif b"stream" in body:
            await connection.send(NDJSON_HEAD)
            self.open.append(connection)
        else:
            await connection.send(answer(200, body))

    async def finish(self) -> None:
        """Ends all that stand open, in good order."""
        for connection in self.open:
            with contextlib.suppress(ConnectionError):
                await connection.send(chunk(b"{}\n"), LAST_CHUNK)


def asking(body: bytes, connection: bytes = b"close") -> bytes:
    """A request by the name that a gateway on loopback answers to."""
    head = b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nConnection: %b\r\nContent-Length: %d\r\n\r\n"
    return head % (connection, len(body)) + body


class Running:
    """A gateway in processes of its own, all its files in one directory; `ollama` is its first backend."""

    def __init__(self, process: asyncio.subprocess.Process, settings: Settings, ollamas: tuple[Ollama, ...]) -> None:
        self.process = process
        self.settings = settings
        self.ollamas = ollamas
        self.ollama = ollamas[0]
        self.said = ""
        self.clients: list[Client] = []

    @contextlib.asynccontextmanager
    async def successor(self, **changes: object) -> AsyncIterator["Running"]:
        """Another gateway of the same inventory, which takes this one's place."""
        run_dir = Path(self.settings.run_dir) / "next"
        run_dir.mkdir()
        port = int(self.said.rpartition(":")[2])
        settings = replace(self.settings, run_dir=str(run_dir), listen_port=port, **changes)  # type: ignore[arg-type]  # fields of Settings
        async with _started(settings, self.ollamas, "replace") as running:
            yield running

    def declare(self, *ollamas: Ollama, more: str = "") -> None:
        """Has the inventory name these."""
        write_inventory(Path(self.settings.inventory), ollamas, more)

    async def client(self) -> Client:
        port = int(self.said.rpartition(":")[2])
        client = Client(*await asyncio.open_connection("127.0.0.1", port, limit=2**20))
        self.clients.append(client)
        return client

    async def asked(self) -> tuple[int, bytes]:
        client = await self.client()
        client.send(asking(PROMPT))
        return await client.answer()

    async def stream(self) -> Client:
        client = await self.client()
        client.send(asking(STREAMED))
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
        return client

    def child(self, module: str) -> int:
        """The pid of the one child that runs this module. There must be one: a signal to the pid 0 would hit the tests themselves."""
        found = self._running(module)
        assert len(found) == 1, f"{module}: {found}; it said {self.said!r}"
        return found[0]

    def has_another(self, module: str, than: int) -> bool:
        """Whether one runs that is not `than`."""
        return bool(set(self._running(module)) - {than})

    def _running(self, module: str) -> list[int]:
        return [pid for pid in children(self.process.pid) if module in words(pid)]


def children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def words(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return []


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def write_inventory(path: Path, ollamas: tuple[Ollama, ...], more: str = "") -> None:
    """As many slots as tests have streams that stand open, unless an Ollama says how many it has."""
    hosts = [
        f'[hosts.{ollama.node.name}]\naddress = "127.0.0.1"\nport = {number}\n'
        f"instances = [{{ port = {ollama.node.address.rpartition(':')[2]} }}]\n"
        f"env = {{ OLLAMA_NUM_PARALLEL = {ollama.slots} }}\n"
        for number, ollama in enumerate(ollamas, 1)
    ]
    path.write_text(f'[fleet]\nollama = "0.17.4"\n{"".join(hosts)}\n[gateway]\ntransport = "direct"\n{more}\n')


@contextlib.asynccontextmanager
async def launched(
    *, nodes: int = 1, slots: int = 100, more: str = "", stderr: int | None = None, **changes: object
) -> AsyncIterator[Running]:
    """A gateway before so many Ollamas, its inventory's part with `more`; whether it serves or why it does not stands in `said`."""
    with TemporaryDirectory(prefix="gateway-") as scratch:
        ollamas = tuple(Ollama(f"gpu{number}", slots) for number in range(1, nodes + 1))
        for ollama in ollamas:
            await ollama.node.start()
        path = Path(scratch) / "inventory.toml"
        write_inventory(path, ollamas, more)
        values = {"listen_port": 0, "grace_seconds": 20.0, **changes}
        settings = Settings(scratch, str(path), **values)  # type: ignore[arg-type]  # fields of Settings
        try:
            async with _started(settings, ollamas, stderr=stderr) as running:
                yield running
        finally:
            for ollama in ollamas:
                await ollama.node.stop()


@contextlib.asynccontextmanager
async def _started(
    settings: Settings, ollamas: tuple[Ollama, ...], *words: str, stderr: int | None = None
) -> AsyncIterator[Running]:
    state = Path(settings.inventory).parent / "state"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=stderr, env={**os.environ, "HOME": str(state), "XDG_STATE_HOME": str(state)},
    )  # fmt: skip
    running = Running(process, settings, ollamas)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(encode(settings))
    try:
        async with asyncio.timeout(40):
            running.said = (await process.stdout.readline()).decode().strip()
        yield running
    finally:
        for number in (signal.SIGTERM, signal.SIGTERM):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
        await asyncio.wait_for(process.wait(), 30)
        for client in running.clients:
            client.leave()
            with contextlib.suppress(ConnectionError):
                await client.writer.wait_closed()
        # stdout is data: what was logged stands on stderr. Reading lets the pipe's transport close within the loop that made it.
        assert await process.stdout.read() == b""
