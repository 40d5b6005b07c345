"""Hosts of a fleet on this machine: a real sshd each, and a simulated Ollama with a store of its own."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from olladist.ollama.manifest import parse_manifest
from olladist.ollama.names import parse_name
from olladist.ollama.store import blob_path, manifest_path
from olladist.sim import gguf
from olladist.sim.hosts import ThrowawayHosts, listens
from tests.gateway.control.processes import Control, control


class Machines:
    """gpu1, gpu2 …; `power` says who runs."""

    def __init__(self, hosts: ThrowawayHosts) -> None:
        self.hosts = hosts
        self._ollamas: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.hosts.hosts)

    def store(self, name: str) -> Path:
        return self.hosts.hosts[name].home / ".ollama" / "models"

    def port(self, name: str) -> int:
        return self.hosts.hosts[name].instances[0]

    def boot(self, name: str) -> None:
        """Its Ollama; the sshd of a host that was killed as well."""
        host = self.hosts.hosts[name]
        if not listens(host.port):
            self.hosts.start(name)
        extra = {"OLLAMA_HOST": f"127.0.0.1:{self.port(name)}", "OLLAMA_MODELS": str(self.store(name))}
        environ = {**os.environ, **host.environ(extra), "PATH": os.environ["PATH"]}
        command = [sys.executable, "-m", "olladist.sim.ollama", "serve"]
        self._ollamas[name] = subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL, cwd=host.home)

    def wait(self, *names: str) -> None:
        deadline = time.monotonic() + 30
        for name in names:
            while not listens(self.port(name)):
                assert time.monotonic() < deadline, f"the Ollama of {name} does not start"
                time.sleep(0.02)

    def runs(self, name: str) -> bool:
        return listens(self.port(name)) and listens(self.hosts.hosts[name].port)

    def kill(self, name: str) -> None:
        """A power cut."""
        self.hosts.kill(name)
        if process := self._ollamas.pop(name, None):
            process.kill()
            process.wait()

    def revive(self, name: str) -> None:
        self.boot(name)
        self.wait(name)

    def ask(self, name: str, method: str, path: str, **how: Any) -> httpx.Response:
        """One host's Ollama itself."""
        return httpx.request(method, f"http://127.0.0.1:{self.port(name)}{path}", timeout=30, **how)

    def models(self, name: str) -> dict[str, str]:
        """Short names and digests."""
        rows = self.ask(name, "GET", "/api/tags").json()["models"]
        return {row["name"]: "sha256:" + row["digest"] for row in rows}

    def whole(self, name: str, model: str) -> bool:
        """Whether the store has the model, and every blob of it has its right digest."""
        path = self.store(name) / manifest_path(parse_name(model))
        if not path.exists():
            return False
        return all(
            "sha256:" + hashlib.sha256((self.store(name) / blob_path(blob.digest)).read_bytes()).hexdigest()
            == blob.digest
            for blob in parse_manifest(path.read_bytes()).blobs
        )

    def make(self, name: str, model: str, sentence: str = "Blue.") -> str:
        """A model on that host alone; its digest."""
        content = weights(sentence)
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        self.ask(name, "POST", f"/api/blobs/{digest}", content=content)
        body = {"model": model, "files": {"m.gguf": digest}, "stream": False}
        self.ask(name, "POST", "/api/create", json=body).raise_for_status()
        return self.models(name)[str(parse_name(model))]

    def copy(self, source: str, name: str) -> None:
        """All models of one host to another, files and all."""
        shutil.copytree(self.store(source), self.store(name), dirs_exist_ok=True)

    def clear(self) -> None:
        """No host has any model."""
        for name in self.names:
            for model in self.models(name):
                self.ask(name, "DELETE", "/api/delete", json={"model": model}).raise_for_status()
            for blob in (self.store(name) / "blobs").glob("*"):
                blob.unlink()

    def close(self) -> None:
        for name in tuple(self._ollamas):
            self.kill(name)


@contextmanager
def machines(folder: Path, *names: str) -> Iterator[Machines]:
    with ThrowawayHosts(folder, names) as hosts:
        made = Machines(hosts)
        try:
            for name in names:
                made.boot(name)
            made.wait(*names)
            yield made
        finally:
            made.close()


@asynccontextmanager
async def gateway(run_dir: Path, fleet: Machines, more: str = "") -> AsyncIterator[Control]:
    """A control process before them, which has heard from all that run."""
    inventory = run_dir / "inventory.toml"
    inventory.write_text(fleet.hosts.inventory() + more)
    (run_dir / "api.sock").unlink(missing_ok=True)  # of a gateway that has ended
    async with control(run_dir, inventory, accept_new=True) as started:
        for name in fleet.names:
            if listens(fleet.port(name)):
                await started.wait_state(name, "up")
        yield started


async def upload(client: httpx.AsyncClient, content: bytes) -> str:
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    (await client.post(f"/api/blobs/{digest}", content=content)).raise_for_status()
    return digest


async def progress(
    client: httpx.AsyncClient, path: str, body: Mapping[str, Any]
) -> tuple[httpx.Response, list[dict[str, Any]]]:
    """The answer and its lines."""
    async with client.stream("POST", path, json=body, timeout=60) as response:
        lines = [msgspec.json.decode(line, type=dict[str, Any]) async for line in response.aiter_lines()]
    return response, lines


def weights(sentence: str) -> bytes:
    """A GGUF that says it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.gguf"
        gguf.write(path, sentence)
        return path.read_bytes()
