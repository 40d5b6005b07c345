"""Hosts that are this machine: real stores in folders, real commands, and the failures that hosts have."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from olladist.errors import ConnectionLost
from olladist.host.api import OllamaAPI
from olladist.modelstore.contents import StorePlace
from olladist.ollama.names import parse_name
from olladist.ollama.store import blob_path, manifest_path
from olladist.ssh.local import LocalRunner
from olladist.ssh.runner import Endpoint
from tests.modelstore.stores import Store


class FailingRunner(LocalRunner):
    """A host whose connection breaks after `cut` bytes of copying, and which calls `before` ahead of each script."""

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self.cut: int | None = None
        self.sent = 0
        self.calls = 0
        self.before: Callable[[str], None] = lambda script: None

    async def check(self, script: str, *, stdin: bytes = b"", **how: Any) -> str:
        self._alive("running a command")
        self.calls += 1
        self.before(script)
        if "cat >>" in script:  # a small blob that goes along with its script
            if self.cut is not None and self.sent + len(stdin) > self.cut:
                self.sent = self.cut
                self._alive("copying a small blob")
            self.sent += len(stdin)
        return await super().check(script, stdin=stdin, **how)

    async def put(self, source: Path, target: str, *, offset: int = 0, **how: Any) -> None:
        during = f"copying to {target}"
        self._alive(during)
        size = source.stat().st_size - offset
        if self.cut is None or self.sent + size <= self.cut:
            await super().put(source, target, offset=offset, **how)
            self.sent += size
            return
        part = Path(target)
        there = part.read_bytes() if part.exists() else b""
        part.write_bytes(there + source.read_bytes()[offset:][: self.cut - self.sent])
        self.sent = self.cut
        self._alive(during)

    async def get(self, source: str, target: Path, **how: Any) -> None:
        self._alive(f"fetching {source}")
        await super().get(source, target, **how)

    def _alive(self, during: str) -> None:
        if self.cut is not None and self.sent >= self.cut:
            raise ConnectionLost(self.host, during, "the connection was lost", hint="run this again")


class SmallOllama:
    """What a sync asks of an Ollama: create from files, and pull from a registry that is a dictionary."""

    def __init__(self, store: Store, registry: Mapping[str, tuple[bytes, ...]] | None = None) -> None:
        self.store = store
        self.registry = registry or {}
        self.created: list[dict[str, Any]] = []
        self.pulled: list[str] = []
        self.lies = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        body = json.loads(await reader.readexactly(length))
        status, answer = self._create(body) if b"/api/create" in head else self._pull(body["model"])
        writer.write(
            f"HTTP/1.1 {status} X\r\nContent-Length: {len(answer)}\r\nConnection: close\r\n\r\n".encode() + answer
        )
        writer.close()
        await writer.wait_closed()

    def _create(self, body: dict[str, Any]) -> tuple[int, bytes]:
        self.created.append(body)
        if self.lies:
            return 200, b'{"status":"success"}'
        layers = []
        for digest in body.get("files", {}).values():
            path = self.store.root / blob_path(digest)
            if not path.exists():
                return 500, b'{"error":"open blob: no such file or directory"}'
            layers.append(path.read_bytes())
        if base := body.get("from"):
            path = self.store.root / manifest_path(parse_name(base))
            if not path.exists():
                return 500, b'{"error":"pull model manifest: file does not exist"}'
            layers.append(path.read_bytes())
        self.store.model(body["model"], f"config of {sorted(body)}".encode(), *layers, body.get("system", "").encode())
        return 200, b'{"status":"success"}'

    def _pull(self, name: str) -> tuple[int, bytes]:
        self.pulled.append(name)
        if name not in self.registry:
            return 200, b'{"status":"pulling manifest"}\n{"error":"pull model manifest: file does not exist"}\n'
        manifest = self.store.model(name, *self.registry[name])
        lines: list[dict[str, object]] = [{"status": "pulling manifest"}]
        lines += [
            {"status": "pulling", "digest": blob.digest, "total": blob.size, "completed": done}
            for blob in manifest.blobs
            for done in (0, blob.size)
        ]
        lines.append({"status": "success"})
        return 200, b"".join(json.dumps(line).encode() + b"\n" for line in lines)


class Lab:
    """Hosts gpu1 … gpuN of this machine, each with a store, a runner and an Ollama."""

    def __init__(self, folder: Path, *names: str, registry: Mapping[str, tuple[bytes, ...]] | None = None) -> None:
        self.folder = folder
        self.stores = {name: Store(folder / name / "models") for name in names}
        self.runners = {name: FailingRunner(name) for name in names}
        self.ollamas = {name: SmallOllama(store, registry) for name, store in self.stores.items()}
        self.spool = folder / "spool"

    @property
    def places(self) -> dict[str, StorePlace]:
        return {name: store.place for name, store in self.stores.items()}

    async def close(self) -> None:
        for runner in self.runners.values():
            await runner.close()

    @asynccontextmanager
    async def api(self, host: str) -> AsyncIterator[OllamaAPI]:
        socket = self.folder / f"{host}.sock"
        server = await asyncio.start_unix_server(self.ollamas[host].serve, socket)
        async with server, OllamaAPI(Endpoint(path=str(socket)), host) as api:
            yield api


def mode_and_owner(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mode & 0o7777, stat.st_uid
