"""A control process, started as the supervisor starts it."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec

from olladist.gateway.control import documents
from olladist.gateway.lease import Ask, Grant, Hello, ToWorker, Unpacker, pack
from olladist.gateway.settings import Settings, encode
from tests.gateway.control.nodes import wait_until


class Control:
    """A running control process; `log` is what it has said."""

    def __init__(self, process: asyncio.subprocess.Process, settings: Settings) -> None:
        self.process = process
        self.settings = settings
        self.log = ""
        self.client, self.operator = (
            httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=path), base_url="http://gateway", timeout=10)
            for path in (settings.api_socket, settings.operator_socket)
        )

    async def nodes(self) -> dict[str, documents.Node]:
        response = await self.client.get("/api/distributed/nodes")
        return {n.name: n for n in msgspec.json.decode(response.content, type=documents.Nodes).nodes}

    async def wait_state(self, node: str, state: str) -> None:
        deadline = time.monotonic() + 15
        while (got := (await self.nodes())[node]).state != state:
            assert time.monotonic() < deadline, f"{node} is {got.state} ({got.reason}), not {state}"
            await asyncio.sleep(0.05)

    async def wait_ready(self) -> None:
        ready = Path(self.settings.api_socket)
        await wait_until(lambda: ready.exists() or self.process.returncode is not None, "the socket", 30)
        assert self.process.returncode is None, self.log


class Worker:
    """A worker's end of lease.sock, as far as it asks."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.unpacker: Unpacker[ToWorker] = Unpacker(ToWorker)
        writer.write(pack(Hello(1, 99)))

    async def granted(self, number: int, model: str = "tiny") -> int:
        """The backend that it is granted, whatever else it is told meanwhile."""
        self.writer.write(pack(Ask(number, model, "chat")))
        while True:
            for message in self.unpacker.feed(await self.reader.read(65536)):
                if isinstance(message, Grant):
                    return message.backend


@asynccontextmanager
async def control(
    run_dir: Path, inventory: Path, *, ready: bool = True, accept_new: bool = False, listen_host: str = "127.0.0.1"
) -> AsyncIterator[Control]:
    document = Settings(str(run_dir), str(inventory), accept_new=accept_new, listen_host=listen_host)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "olladist.gateway.control",
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "HOME": str(run_dir), "XDG_STATE_HOME": str(run_dir / "state")},
    )
    assert process.stdin
    assert process.stderr
    process.stdin.write(encode(document))
    made = Control(process, document)

    async def listen() -> None:
        assert process.stderr
        while line := await process.stderr.readline():
            made.log += line.decode()

    listening = asyncio.create_task(listen())
    try:
        if ready:
            await made.wait_ready()
        yield made
    finally:
        await made.client.aclose()
        await made.operator.aclose()
        if process.returncode is None:
            process.terminate()
            await asyncio.wait_for(process.wait(), 10)
        await listening
        process.stdin.close()
    assert "Traceback" not in made.log, made.log
