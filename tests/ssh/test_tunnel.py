import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.ssh.connections import Connections
from olladist.ssh.tunnel import Tunnel, pause_after

# "" has no `ssh` to run, so that the tunnel goes through asyncssh; the other one is there where OpenSSH is.
WAYS = ["", *([path] if (path := shutil.which("ssh")) else [])]


@asynccontextmanager
async def running(tunnel: Tunnel) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(tunnel.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


def children() -> set[int]:
    """Processes that we have started and that have not ended."""
    return {int(pid) for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()}


async def ask(path: Path) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"ping\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.fixture
async def ollama(listening: Any) -> AsyncIterator[Any]:
    """What the tunnel leads to."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"answer to " + await reader.readline())

    async with listening(serve) as server:
        yield server


@pytest.fixture(params=WAYS, ids=["asyncssh", "openssh"][: len(WAYS)])
async def ways(request: pytest.FixtureRequest, tmp_path: Path, identity: Path) -> AsyncIterator[Connections]:
    async with Connections(accept_new=True, state=tmp_path / "state", openssh=request.param) as connections:
        yield connections


async def test_it_leads_to_the_port_of_the_host(
    ways: Connections, sshd: Any, ollama: Any, tmp_path: Path, until: Any
) -> None:
    """Once it is up, clients of the socket speak with what listens there; the socket is ours alone."""
    path = tmp_path / "tunnel.sock"
    tunnel = Tunnel(ways, sshd.host(), ollama.port, path)
    assert not tunnel.up
    assert tunnel.problem
    async with running(tunnel):
        await until(lambda: tunnel.up)

        assert await asyncio.gather(*(ask(path) for _ in range(20))) == [b"answer to ping\n"] * 20
        assert tunnel.problem == ""
        assert path.stat().st_mode & 0o777 == 0o600


async def test_its_end_leaves_nothing(ways: Connections, sshd: Any, ollama: Any, tmp_path: Path, until: Any) -> None:
    """After the cancel there is no process, no socket and no connection."""
    before = children()
    path = tmp_path / "tunnel.sock"
    tunnel = Tunnel(ways, sshd.host(), ollama.port, path)
    async with running(tunnel) as task:
        await until(lambda: tunnel.up)

    assert task.cancelled()
    await until(lambda: children() == before)  # also those of the host, which is in our own process
    assert not path.exists()
    assert not tunnel.up
    await until(lambda: not sshd.connections)


async def test_it_is_opened_again_when_the_host_comes_back(
    ways: Connections, sshd: Any, ollama: Any, tmp_path: Path, until: Any
) -> None:
    """While the host is away `problem` says why, naming it; when it is back the tunnel is up by itself."""
    path = tmp_path / "tunnel.sock"
    tunnel = Tunnel(ways, sshd.host("gpu7"), ollama.port, path)
    async with running(tunnel):
        await until(lambda: tunnel.up)
        await sshd.stop()
        await until(lambda: not tunnel.up)
        assert tunnel.problem.startswith("gpu7: ")
        await until(lambda: "refused" in tunnel.problem)

        await sshd.start()
        await until(lambda: tunnel.up)

        assert await ask(path) == b"answer to ping\n"


async def test_it_goes_through_bastions(
    ways: Connections, start_sshd: Any, ollama: Any, tmp_path: Path, until: Any
) -> None:
    """Two hops away works as well."""
    one, two, target = [await start_sshd(name) for name in ("one", "two", "target")]
    host = target.host(jump=(f"127.0.0.1:{one.port}", f"127.0.0.1:{two.port}"))
    tunnel = Tunnel(ways, host, ollama.port, tmp_path / "tunnel.sock")
    async with running(tunnel):
        await until(lambda: tunnel.up)

        assert await ask(tmp_path / "tunnel.sock") == b"answer to ping\n"


async def test_a_host_that_refuses_us_is_told(ways: Connections, sshd: Any, tmp_path: Path, until: Any) -> None:
    """The problem is the error that a command would give, with its hint."""
    sshd.authorized.clear()
    tunnel = Tunnel(ways, sshd.host(), 11434, tmp_path / "tunnel.sock")
    async with running(tunnel):
        await until(lambda: "ops was refused" in tunnel.problem)

        assert "ssh-copy-id" in tunnel.problem
        assert not tunnel.up


async def test_a_host_that_forwards_nothing_is_told(ways: Connections, sshd: Any, tmp_path: Path, until: Any) -> None:
    """An sshd without AllowTcpForwarding is no tunnel that is up and leads nowhere."""
    sshd.forwards = False
    tunnel = Tunnel(ways, sshd.host(), 11434, tmp_path / "tunnel.sock")
    async with running(tunnel):
        await until(lambda: "sshd forwards nothing" in tunnel.problem)

        assert "AllowTcpForwarding" in tunnel.problem


@given(st.integers(0, 1000), st.floats(0, 1, exclude_max=True))
def test_pauses_are_bounded(failures: int, chance: float) -> None:
    """Half a second at first, ten at most, and never all tunnels at once."""
    pause = pause_after(failures, chance)

    assert 0.25 <= pause <= 10
    assert pause_after(0, 0) == 0.5
    assert pause_after(1000, 0) == 10
