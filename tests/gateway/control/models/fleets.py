"""Simulated Ollamas that can be switched off and on, and a real control process that has them as hosts."""

import asyncio
import hashlib
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import ollama
import uvicorn

from olladist.sim import gguf
from olladist.sim.hosts import free_ports
from olladist.sim.inference import Server
from olladist.sim.runners import Runners
from olladist.sim.server import App
from olladist.sim.settings import Settings
from olladist.sim.store import Store
from tests.gateway.control.nodes import Node, wait_until
from tests.gateway.control.processes import Control, control

KNOWN = "llama3.2:1b"  # olladist.sim.registry has it


@cache
def weights(sentence: str) -> bytes:
    """A model that says the sentence: the same for every host."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "made.gguf")
        gguf.write(path, sentence)
        return path.read_bytes()


@dataclass
class Sim:
    """A simulated Ollama in this process; what it holds stays while it is off."""

    name: str
    folder: Path
    port: int
    task: asyncio.Task[None] | None = None
    running: uvicorn.Server | None = None

    async def start(self) -> None:
        settings = Settings(
            "127.0.0.1", self.port, self.folder, name=self.name, tokens_per_second=0, load_rate=0, parallel=4
        )
        app = App(Server(settings, Store(self.folder), Runners(settings)), loopback=True)
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        config = uvicorn.Config(app, lifespan="off", ws="none", log_config=None, access_log=False)
        self.running = uvicorn.Server(config)
        self.task = asyncio.create_task(self.running.serve(sockets=[listener]))
        await wait_until(lambda: bool(self.running and self.running.started), "the simulated Ollama")

    async def stop(self) -> None:
        if self.running and self.task:
            self.running.should_exit = True
            self.running.force_exit = True
            await self.task
            self.running = self.task = None

    @property
    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=20)

    async def change_unseen(self, model: str, sentence: str) -> None:
        """While it is off for the gateway: Ollama cannot delete what it has only as long as it is the same."""
        own, self.port = self.port, free_ports(1)[0]
        await self.start()
        await self.make(model, sentence)
        await self.stop()
        self.port = own

    async def make(self, model: str, sentence: str = "The sky is blue.") -> None:
        content = weights(sentence)
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        async with self.client as client:
            await client.post(f"/api/blobs/{digest}", content=content)
            body = {"model": model, "files": {"m.gguf": digest}, "stream": False}
            (await client.post("/api/create", json=body)).raise_for_status()

    async def pull(self, model: str) -> None:
        """The same on every host; what is made has another digest in each store (server/create.go writes its path)."""
        async with self.client as client:
            (await client.post("/api/pull", json={"model": model, "stream": False})).raise_for_status()

    async def load(self, model: str) -> None:
        async with self.client as client:
            (await client.post("/api/generate", json={"model": model, "keep_alive": "1h"})).raise_for_status()

    async def tags(self) -> dict[str, str]:
        """Digests by name."""
        async with self.client as client:
            return {row["name"]: row["digest"] for row in (await client.get("/api/tags")).json()["models"]}

    async def loaded(self) -> list[str]:
        async with self.client as client:
            return [row["name"] for row in (await client.get("/api/ps")).json()["models"]]


@dataclass
class Fleet:
    gateway: Control
    sims: tuple[Sim, ...] = ()
    client: ollama.AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        transport = httpx.AsyncHTTPTransport(uds=self.gateway.settings.api_socket)
        self.client = ollama.AsyncClient(host="http://gateway", transport=transport)

    def declare(self, **nodes: Node) -> None:
        """Has the inventory name these and no others; to be reloaded."""
        text = inventory_text({name: node.port for name, node in nodes.items()}, "", "")
        Path(self.gateway.settings.inventory).write_text(text)

    async def request(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        return await self.gateway.client.request(method, path, json=body, **more)

    async def tags(self) -> dict[str, str]:
        return {row["name"]: row["digest"] for row in (await self.request("GET", "/api/tags")).json()["models"]}

    async def wait_known(self, **models: str) -> None:
        """Until the gateway knows that hosts hold these models, names with blanks between them, and no others."""
        wanted = {host: sorted(names.split()) for host, names in models.items()}
        deadline = time.monotonic() + 20
        while True:
            await self.tags()  # has them listed anew
            nodes = await self.gateway.nodes()
            got = {host: sorted(model.name for model in nodes[host].models) for host in wanted}
            if got == wanted:
                return
            assert time.monotonic() < deadline, f"the gateway knows {got}, not {wanted}"
            await asyncio.sleep(0.02)

    async def holders(self, model: str) -> list[str]:
        """Of the hosts that are on, by their own word."""
        return [sim.name for sim in self.sims if sim.running and model in await sim.tags()]

    async def wait_digest(self, host: str, model: str, digest: str | None) -> None:
        """Until the host has that content under the name, by its own word; None: nothing."""
        sim = next(sim for sim in self.sims if sim.name == host)
        deadline = time.monotonic() + 20
        while (got := (await sim.tags()).get(model)) != digest:
            assert time.monotonic() < deadline, f"{host} has {got}, not {digest}"
            await asyncio.sleep(0.02)

    async def wait_gone(self, host: str, model: str) -> None:
        await self.wait_digest(host, model, None)

    async def lines(self, path: str, body: Any) -> list[dict[str, Any]]:
        """Every line of a stream of progress; none may be empty."""
        answer = await self.request("POST", path, body)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson"), answer.text
        assert answer.text.endswith("\n")
        return [httpx.Response(200, text=line).json() for line in answer.text[:-1].split("\n")]


def inventory_text(ports: dict[str, int], gateway: str, text: str) -> str:
    """Hosts that differ in the port of their sshd, which nobody asks: the gateway reaches their Ollamas directly."""
    hosts = (
        f'[hosts.{name}]\naddress = "127.0.0.1"\nport = {number}\ninstances = [{{ port = {port} }}]\n'
        for number, (name, port) in enumerate(ports.items(), 1)
    )
    return f'[gateway]\ntransport = "direct"\n{gateway}\n' + "".join(hosts) + text


@asynccontextmanager
async def fleet(
    run_dir: Path, *names: str, gateway: str = "", text: str = "", sims: tuple[Sim, ...] = ()
) -> AsyncIterator[Fleet]:
    """A gateway for hosts of these names, all on; `gateway` and `text` are more of the inventory. `sims` from an earlier one are used again."""
    sims = sims or tuple(
        Sim(name, run_dir / name, port) for name, port in zip(names, free_ports(len(names)), strict=True)
    )
    inventory = run_dir / "inventory.toml"
    inventory.write_text(inventory_text({sim.name: sim.port for sim in sims}, gateway, text))
    (run_dir / "api.sock").unlink(missing_ok=True)  # a predecessor's, which would look ready
    async with AsyncExitStack() as stack:
        for sim in sims:
            stack.push_async_callback(sim.stop)
            if sim.running is None:
                await sim.start()
        made = Fleet(await stack.enter_async_context(control(run_dir, inventory)), sims)
        stack.push_async_callback(made.client._client.aclose)
        yield made


@asynccontextmanager
async def scripted(run_dir: Path, gateway: str = "", **nodes: Node) -> AsyncIterator[Fleet]:
    """A gateway for scripted hosts, which run already."""
    inventory = run_dir / "inventory.toml"
    inventory.write_text(inventory_text({name: node.port for name, node in nodes.items()}, gateway, ""))
    async with control(run_dir, inventory) as process:
        made = Fleet(process)
        yield made
        await made.client._client.aclose()
