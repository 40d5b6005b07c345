"""A whole gateway, started as the operator starts it, among simulated Ollamas that are processes of their own and can be killed."""

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import ollama

from olladist.sim import gguf
from olladist.sim.hosts import free_ports, listens

TOKEN = "0123456789abcdef0123456789abcdef"
ADMIN = {"authorization": f"Bearer {TOKEN}"}


class Ollama:
    """A simulated Ollama; what it holds outlives its process."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        environ = {**os.environ, "OLLAMA_HOST": f"127.0.0.1:{self.port}", "OLLAMA_MODELS": str(self._folder)}
        words = ("-m", "olladist.sim.ollama", "serve")
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *words, env=environ, stderr=asyncio.subprocess.DEVNULL
        )
        await until(lambda: _true(listens(self.port)), "the simulated Ollama")

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def hold(self, model: str, say: str = "The sky is blue.") -> None:
        file = self._folder / "m.gguf"
        gguf.write(file, say)
        content = file.read_bytes()
        file.unlink()
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        async with httpx.AsyncClient(base_url=self.url, timeout=30) as client:
            await client.post(f"/api/blobs/{digest}", content=content)
            body = {"model": model, "files": {"m.gguf": digest}, "stream": False}
            (await client.post("/api/create", json=body)).raise_for_status()


class Whole:
    """`gpu1` and `gpu2` are the fleet (nodes gpu:PORT), `local` is beside the gateway; `headers` are those of the last answer to `python`."""

    def __init__(self, folder: Path, gpu1: Ollama, gpu2: Ollama, local: Ollama) -> None:
        self.gpu1, self.gpu2, self.local = gpu1, gpu2, local
        self.said = ""
        self.url = ""
        self.headers: Mapping[str, str] = {}
        self.status = 0
        self._clients: list[ollama.AsyncClient] = []
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    async def start(
        self,
        environ: Mapping[str, str] | None = None,
        *,
        inventory: str = "",
        ready: bool = True,
        verbose: bool = False,
    ) -> None:
        """`inventory` is more of [gateway]; `ready` False waits for its end instead."""
        ports = ", ".join(f"{{ port = {server.port} }}" for server in (self.gpu1, self.gpu2))
        hosts = f'[hosts.gpu]\nconnection = "local"\ninstances = [{ports}]\n'
        path = self._folder / "inventory.toml"
        path.write_text(f"{hosts}[gateway]\n{inventory}\n")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("OLLAMA_")}
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "olladist", "--json", *(["-v"] if verbose else []), "-i", str(path)),
            *("proxy", "--listen", "127.0.0.1:0"),
            env={**clean, "HOME": str(self._folder), "XDG_STATE_HOME": str(self._folder / "state"), **(environ or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        if ready:
            self.url = await asyncio.wait_for(self._listening(), 60)

    async def _listening(self) -> str:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        text = b""
        while line := await process.stdout.readline():
            text += line
            if line == b"}\n":
                document = json.loads(text)
                assert "url" in document, (document, await self.ended())
                return str(document["url"])
        raise AssertionError(await self.ended())

    async def ended(self) -> tuple[int, str]:
        """Its status and what it said."""
        process = self._process
        assert process is not None
        _, said = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode or 0, said.decode()

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            for client in self._clients:
                await client._client.aclose()
            self._clients.clear()
            self._process.terminate()
            self.said += (await self.ended())[1]

    def children(self) -> list[Path]:
        """In /proc."""
        assert self._process is not None
        number = str(self._process.pid)
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = (folder / "stat").read_text().rpartition(") ")[2].split()[1]
            except OSError:
                continue  # it has ended meanwhile
            if parent == number:
                found.append(folder)
        return found

    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=30)

    def python(self) -> ollama.AsyncClient:
        """The client of Ollama's own makers, unchanged."""

        async def hear(response: httpx.Response) -> None:
            self.headers, self.status = response.headers, response.status_code

        client = ollama.AsyncClient(self.url, timeout=30, event_hooks={"response": [hear]})
        self._clients.append(client)
        return client

    async def post(self, path: str, body: object, **headers: str) -> httpx.Response:
        async with self.http() as client:
            return await client.post(path, json=body, headers=headers)

    async def get(self, path: str, **headers: str) -> Any:
        async with self.http() as client:
            answer = await client.get(path, headers=headers)
            answer.raise_for_status()
            return answer.json()

    def answered_by(self) -> tuple[str | None, str | None, str | None, str | None]:
        """Node, fallback, mode, and whether that is distributed, as the last answer says."""
        names = ("x-ollama-node", "x-ollama-fallback", "x-ollama-mode", "x-ollama-distributed")
        node, fallback, mode, distributed = (self.headers.get(name) for name in names)
        return node, fallback, mode, distributed

    async def knows_down(self, *servers: Ollama) -> None:
        """Returns once the gateway knows that these are."""
        names = {f"gpu:{server.port}" for server in servers}

        async def known() -> bool:
            nodes = (await self.get("/api/distributed/nodes"))["nodes"]
            return {node["name"] for node in nodes if node["state"] == "down"} == names

        await until(known, f"the gateway knows that {names} are down")


async def _true(value: bool) -> bool:
    return value


async def until(condition: Callable[[], Awaitable[bool]], what: str, seconds: float = 30) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    turn = asyncio.Event()
    while not await condition():
        assert loop.time() < deadline, f"not within {seconds} s: {what}"
        turn.clear()
        loop.call_later(0.02, turn.set)
        await turn.wait()


@asynccontextmanager
async def whole(folder: Path) -> AsyncIterator[Whole]:
    """The fleet holds tiny, the local Ollama tiny and mine; the gateway is the test's to start."""
    ollamas = []
    for name, port in zip(("gpu1", "gpu2", "local"), free_ports(3), strict=True):
        (folder / name).mkdir()
        ollamas.append(Ollama(folder / name, port))
    gateway = Whole(folder, *ollamas)
    try:
        await asyncio.gather(*(server.start() for server in ollamas))
        await asyncio.gather(*(server.hold("tiny") for server in ollamas), gateway.local.hold("mine"))
        yield gateway
    finally:
        await gateway.stop()
        await asyncio.gather(*(server.kill() for server in ollamas))
    assert "Traceback" not in gateway.said, gateway.said
