"""Blobs through a control process, compared with what one simulated Ollama answers itself."""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from olladist.ollama.store import blob_path
from tests.gateway.control.machines import Machines, gateway
from tests.gateway.control.nodes import wait_until
from tests.gateway.control.processes import control

CONTENT = b"GGUF and much more"
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
OTHER = "sha256:" + "ab" * 32


def heard(response: httpx.Response) -> tuple[int, str | None, bytes]:
    return response.status_code, response.headers.get("content-type"), response.content


async def test_the_answers_are_ollamas(run_dir: Path, fleet: Machines) -> None:
    """Status, type and body of each case are those of an Ollama that is asked itself; the same blob again is no error."""
    cases = [
        ("HEAD", DIGEST, b""),
        ("POST", OTHER, CONTENT),
        ("POST", DIGEST.replace(":", "-"), CONTENT),
        ("POST", DIGEST, CONTENT),
        ("POST", DIGEST, CONTENT),
        ("HEAD", DIGEST, b""),
        ("HEAD", DIGEST.replace(":", "-"), b""),
        ("POST", "sha256:12", CONTENT),
        ("HEAD", "sha256:12", b""),
        ("POST", "%20", CONTENT),
        ("POST", "sha256-" + "AB" * 32, CONTENT),
    ]
    async with gateway(run_dir, fleet) as g:
        for method, digest, content in cases:
            itself = fleet.ask("gpu3", method, f"/api/blobs/{digest}", content=content)
            through = await g.client.request(method, f"/api/blobs/{digest}", content=content)

            assert heard(through) == heard(itself), (method, digest)
        assert through.headers["x-ollama-node"] == "gpu1"
    assert (fleet.store("gpu1") / blob_path(DIGEST)).read_bytes() == CONTENT
    assert not (fleet.store("gpu2") / blob_path(DIGEST)).exists()


async def test_a_large_upload_is_never_kept(run_dir: Path, fleet: Machines) -> None:
    """Chunked, as the Go client sends it: 100 MB pass through a process that grows by a few."""
    piece, number = os.urandom(1 << 20), 100
    total = hashlib.sha256()
    for _ in range(number):
        total.update(piece)
    digest = "sha256:" + total.hexdigest()

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(number):
            yield piece

    async with gateway(run_dir, fleet) as g:
        before = peak(g.process.pid)
        response = await g.client.post(f"/api/blobs/{digest}", content=pieces(), timeout=60)

        assert response.status_code == 201
        assert peak(g.process.pid) - before < 32 << 20
    assert (fleet.store("gpu1") / blob_path(digest)).stat().st_size == number << 20
    (fleet.store("gpu1") / blob_path(digest)).unlink()


async def test_a_known_blob_is_answered_before_its_body_has_come(run_dir: Path, fleet: Machines) -> None:
    """As Ollama does: who waits for an answer before it sends 40 GB need not send them."""
    async with gateway(run_dir, fleet) as g:
        await g.client.post(f"/api/blobs/{DIGEST}", content=CONTENT)
        reader, writer = await asyncio.open_unix_connection(g.settings.api_socket)
        writer.write(f"POST /api/blobs/{DIGEST} HTTP/1.1\r\nHost: x\r\nContent-Length: 40000000000\r\n\r\n".encode())

        assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_a_node_that_is_away_is_passed_over(run_dir: Path, fleet: Machines) -> None:
    """A blob whose node has died is not there any more: 404 says so, and the client sends it to the next node."""
    async with gateway(run_dir, fleet) as g:
        first = await g.client.post(f"/api/blobs/{DIGEST}", content=CONTENT)
        fleet.kill(first.headers["x-ollama-node"])
        again = await g.client.head(f"/api/blobs/{DIGEST}")
        second = await g.client.post(f"/api/blobs/{DIGEST}", content=CONTENT)

        assert (first.status_code, again.status_code, second.status_code) == (201, 404, 201)
        assert first.headers["x-ollama-node"] != again.headers["x-ollama-node"] == second.headers["x-ollama-node"]


async def test_uploads_stay_on_one_node(run_dir: Path, fleet: Machines) -> None:
    """Also when the preferred one comes back in between: the create that follows finds all its blobs there."""
    async with gateway(run_dir, fleet) as g:
        fleet.kill("gpu1")
        await g.wait_state("gpu1", "down")
        first = await g.client.post(f"/api/blobs/{DIGEST}", content=CONTENT)
        fleet.revive("gpu1")
        await g.wait_state("gpu1", "up")

        assert (await g.client.head(f"/api/blobs/{DIGEST}")).status_code == 200
        assert first.headers["x-ollama-node"] == "gpu2"


async def test_a_client_that_leaves_leaves_nothing(run_dir: Path, fleet: Machines) -> None:
    """Half a blob is no blob, on the node as with one Ollama, and the next try is as good as a first one."""
    blobs = fleet.store("gpu1") / "blobs"
    async with gateway(run_dir, fleet) as g:
        _, writer = await asyncio.open_unix_connection(g.settings.api_socket)
        writer.write(f"POST /api/blobs/{DIGEST} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n".encode())
        writer.write(b"x" * 500_000)
        await writer.drain()
        await wait_until(lambda: temporary(blobs) > 0, "the node has begun")
        writer.transport.abort()
        await wait_until(lambda: temporary(blobs) == 0, "the node has given up")

        assert (await g.client.post(f"/api/blobs/{DIGEST}", content=CONTENT)).status_code == 201
    assert not (blobs / OTHER.replace(":", "-")).exists()


async def test_a_node_that_dies_under_an_upload_is_named(run_dir: Path, fleet: Machines) -> None:
    """502, and what to do; half of it cannot be sent to another node, for nothing is kept."""

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(400):
            if number == 20:
                fleet.kill("gpu1")
            yield b"x" * (1 << 16)

    async with gateway(run_dir, fleet) as g:
        response = await g.client.post(f"/api/blobs/{OTHER}", content=pieces(), timeout=30)

        assert response.status_code == 502
        assert response.json()["error"].startswith("gpu1 did not take the blob: ")
        assert response.json()["error"].endswith("; send it again")


@pytest.mark.parametrize("closes", [True, False])
async def test_an_answer_that_comes_early_is_passed_on(run_dir: Path, closes: bool) -> None:
    """A disk that fills up under an upload: the client hears what Ollama says of it, however much it would still send."""
    said = b'{"error":"no space left on device"}'
    node = FullDisk(said, closes=closes)
    async with await asyncio.start_server(node.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        inventory = run_dir / "inventory.toml"
        inventory.write_text(f'[hosts.here]\nconnection = "local"\ninstances = [{{ port = {port} }}]\n')
        async with control(run_dir, inventory) as g:
            await g.wait_state("here", "up")
            response = await g.client.post(f"/api/blobs/{OTHER}", content=b"x" * (20 << 20), timeout=30)
        node.end.set()

    assert (response.status_code, response.content) == (500, said)


class FullDisk:
    """An Ollama that answers uploads after their first bytes, as Go does: it reads no more, and closes now or never."""

    def __init__(self, said: bytes, *, closes: bool) -> None:
        self.said = said
        self.closes = closes
        self.end = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError), contextlib.closing(writer):
            while head := await reader.readuntil(b"\r\n\r\n"):
                method = head.split(b" ")[0]
                status, body = (200, b'{"version":"0.17.4","models":[]}') if method == b"GET" else (404, b"")
                if method == b"POST":
                    await reader.readexactly(65536)
                    status, body = 500, self.said
                more = b"Connection: close\r\n" if method == b"POST" else b""
                length = len(body)
                writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n".encode() + more + b"\r\n" + body)
                await writer.drain()
                if method == b"POST":
                    if self.closes:  # its side, as Go does first: a reset could take the answer with it
                        writer.write_eof()
                    await self.end.wait()
                    return


async def test_nobody_takes_it(run_dir: Path, fleet: Machines) -> None:
    """With all nodes down: 503 and when to come again."""
    for name in fleet.names:
        fleet.kill(name)
    async with gateway(run_dir, fleet) as g:
        response = await g.client.post(f"/api/blobs/{DIGEST}", content=CONTENT)

        assert response.status_code == 503
        assert int(response.headers["retry-after"]) > 0


def temporary(blobs: Path) -> int:
    """Files of uploads that are under way."""
    return sum(len(path.name) < 71 for path in blobs.iterdir()) if blobs.exists() else 0


def peak(pid: int) -> int:
    """The most memory that the process has had, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) << 10
