"""A simulated Ollama in this process, on a real socket."""

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import pytest
import uvicorn

from olladist.sim import gguf
from olladist.sim.inference import Server
from olladist.sim.runners import Runners
from olladist.sim.server import App
from olladist.sim.settings import Settings
from olladist.sim.store import Store

SENTENCE = "The sky is blue because air scatters short waves most."
ASK = [{"role": "user", "content": "why?"}]


@dataclass
class Ollama:
    """A running simulated Ollama, and a client for it."""

    server: Server
    client: httpx.AsyncClient
    port: int

    async def post(self, path: str, body: Any) -> Any:
        """The JSON answer of a request that must succeed."""
        answer = await self.client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def loaded(self) -> list[str]:
        rows = (await self.client.get("/api/ps")).json()["models"]
        return [row["name"] for row in rows]

    async def make(self, name: str, sentence: str = SENTENCE, **more: Any) -> None:
        """Creates a model that says the sentence, through the API."""
        path = self.server.store.root / "made.gguf"
        self.server.store.root.mkdir(parents=True, exist_ok=True)
        gguf.write(path, sentence)
        content = path.read_bytes()
        path.unlink()
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        await self.client.post(f"/api/blobs/{digest}", content=content)
        await self.post("/api/create", {"model": name, "files": {"m.gguf": digest}, "stream": False, **more})


Serve: TypeAlias = Callable[..., AbstractAsyncContextManager[Ollama]]


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Ollama]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = Server(settings, Store(settings.models), Runners(settings))
    app = App(server, loopback=True)
    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=0,
    )
    running = uvicorn.Server(config)
    task = asyncio.create_task(running.serve(sockets=[listener]))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
        try:
            yield Ollama(server, client, port)
        finally:
            running.should_exit = True
            await task
            listener.close()


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Starts a simulated Ollama with the given settings; as fast as it goes where nothing else is said."""
    base = Settings("127.0.0.1", 0, tmp_path / "models", name="here", tokens_per_second=0, load_rate=0)
    return lambda **settings: serving(replace(base, **settings))


@pytest.fixture
async def ollama(serve: Serve) -> AsyncIterator[Ollama]:
    """One with a model "sky"."""
    async with serve() as running:
        await running.make("sky")
        yield running
