"""What the gateway answers itself, beside what the one (simulated) Ollama behind it answers: the same, byte for byte."""

import asyncio
import hashlib
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from olladist.sim import gguf
from olladist.sim.hosts import free_ports, listens
from tests.gateway.control.nodes import wait_until
from tests.gateway.control.processes import control

CASES: tuple[tuple[str, str, bytes], ...] = (
    ("GET", "/", b""),
    ("HEAD", "/", b""),
    ("GET", "/api/version", b""),
    ("HEAD", "/api/version", b""),
    ("GET", "/api/tags", b""),
    ("HEAD", "/api/tags", b""),
    ("GET", "/api/ps", b""),
    ("HEAD", "/api/ps", b""),
    ("GET", "/v1/models", b""),
    ("GET", "/v1/models/tiny", b""),
    ("GET", "/v1/models/Other", b""),
    ("GET", "/v1/models/nope", b""),
    ("GET", "/v1/models/-", b""),
    ("GET", "/v1/models/a%2Fb", b""),
    ("POST", "/api/show", b'{"model":"tiny"}'),
    ("POST", "/api/show", b'{"NAME":"TINY"}'),
    ("POST", "/api/show", b'{"model":"nope"}'),
    ("POST", "/api/show", b'{"model":""}'),
    ("POST", "/api/show", b'{"model":"-/x"}'),
    ("POST", "/api/show", b'{"model":5}'),
    ("POST", "/api/show", b""),
    ("POST", "/api/show", b"{"),
    ("POST", "/api/show", b"null"),
    ("GET", "/api/show", b""),
    ("PUT", "/api/tags", b""),
    ("OPTIONS", "/api/tags", b""),
    ("GET", "/api/tags/", b""),
    ("GET", "/api/%74ags", b""),
    ("GET", "/api/nope", b""),
    *(
        (method, path, body)
        for method, path in (
            ("POST", "/api/pull"),
            ("POST", "/api/push"),
            ("POST", "/api/copy"),
            ("DELETE", "/api/delete"),
        )
        for body in (
            b"",
            b"{",
            b"[]",
            b"null",
            b"{}",
            b'{"model":5}',
            b'{"source":5}',
            b'{"model":"-/x","source":"-","destination":"y"}',
            b'{"name":"nope","source":"nope","destination":"y"}',
            b'{"name":"nope","stream":false,"source":"tiny","destination":"-"}',
            b'{"model":"nope","stream":5}',
            b'{"model":"nope","insecure":5}',
            b'{"MODEL":"nope","Source":"nope","destination":"x"} and more',
        )
    ),
    # Twice the same: what one of them changes the other finds changed.
    ("POST", "/api/pull", b'{"model":"llama3.2:1b"}'),
    ("POST", "/api/pull", b'{"model":"LLAMA3.2:1b","stream":false}'),
    ("POST", "/api/copy", b'{"source":"llama3.2:1b","destination":"twin"}'),
    ("POST", "/api/push", b'{"model":"llama3.2:1b"}'),
    ("POST", "/api/push", b'{"model":"llama3.2:1b","stream":false}'),
    ("GET", "/api/pull", b""),
    ("POST", "/api/delete", b'{"model":"twin"}'),
    ("PUT", "/api/copy", b""),
)


@asynccontextmanager
async def simulated(folder: Path, *models: str) -> AsyncIterator[int]:
    """The port of a simulated Ollama with these models."""
    (port,) = free_ports(1)
    environ = {**os.environ, "OLLAMA_HOST": f"127.0.0.1:{port}", "OLLAMA_MODELS": str(folder / "models")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "olladist.sim.ollama", "serve", env=environ, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await wait_until(lambda: listens(port), "the simulated Ollama", 30)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            gguf.write(folder / "m.gguf", "The sky is <blue> & far.")
            content = (folder / "m.gguf").read_bytes()
            digest = "sha256:" + hashlib.sha256(content).hexdigest()
            await client.post(f"/api/blobs/{digest}", content=content)
            for model in models:
                body = {"model": model, "files": {"m.gguf": digest}, "system": "<you> & I", "stream": False}
                (await client.post("/api/create", json=body)).raise_for_status()
        yield port
    finally:
        process.kill()
        await process.wait()


async def differences(run_dir: Path, port: int, load: str = "") -> list[str]:
    """The cases in which the gateway before this one node answers otherwise than the node."""
    inventory = run_dir / "inventory.toml"
    inventory.write_text(f'[hosts.here]\nconnection = "local"\ninstances = [{{ port = {port} }}]\n')
    found = []
    async with (
        control(run_dir, inventory) as gateway,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as node,
    ):
        if load:
            await node.post("/api/generate", json={"model": load, "keep_alive": "1h"})
            async with asyncio.timeout(30):
                while not (await gateway.client.get("/api/ps")).json()["models"]:
                    pass  # a slow machine: the last listing stands in for one that takes longer than half a second
        for method, path, body in CASES:
            answers = []
            for client in (node, gateway.client):
                r = await client.request(method, path, content=body)
                headers = [r.headers.get(name) for name in ("content-type", "allow", "location")]
                answers.append((r.status_code, headers, r.content))
            if answers[0] != answers[1]:
                found.append(f"{method} {path} {body.decode()}: node {answers[0]}, gateway {answers[1]}")
    return found


async def test_without_models(run_dir: Path) -> None:
    """An empty Ollama and an empty fleet say the same."""
    async with simulated(run_dir) as port:
        assert await differences(run_dir, port) == []


async def test_with_models(run_dir: Path) -> None:
    """With models, one of them in memory, nobody can tell the gateway from the node by its words."""
    async with simulated(run_dir, "tiny", "acme/Other:v1") as port:
        assert await differences(run_dir, port, load="tiny") == []
