import asyncio
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from olladist.ssh.connections import Connections
from olladist.ssh.forward import Forwarding, _Local, forwarded


@pytest.fixture
async def link(sshd: Any, connections: Connections) -> Any:
    return await connections.link(sshd.host())


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def test_bytes_go_both_ways_unchanged(link: Any, listening: Any, tmp_path: Path) -> None:
    """Many megabytes, there and back, through a peer that is slow to read; half-closing ends it."""
    data = bytes(range(256)) * 40_000
    async with listening(echo) as server, forwarded(link.connection, server.port, tmp_path / "s"):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")

        async def send() -> None:
            writer.write(data)
            writer.write_eof()
            await writer.drain()

        _, received = await asyncio.gather(send(), reader.read())
        writer.close()
        await writer.wait_closed()

    assert received == data


class _ReadAtOnce(_Local):
    """As the event loop of Python 3.11.2 treats it: reading goes on after the pause in connection_made."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.resume_reading()


async def test_what_a_client_sends_before_the_channel_is_open_arrives(
    link: Any, listening: Any, tmp_path: Path
) -> None:
    """Also where the event loop reads on after a pause, not a byte is lost, nor the end."""
    async with listening(echo) as port:
        forwarding = Forwarding(link.connection, port.port)
        server = await asyncio.get_running_loop().create_unix_server(lambda: _ReadAtOnce(forwarding), tmp_path / "s")
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(b"early")
        writer.write_eof()
        received = await reader.read()
        writer.close()
        await writer.wait_closed()
        server.close()
        await forwarding.close()

    assert received == b"early"


async def test_the_socket_is_ours_alone(link: Any, tmp_path: Path) -> None:
    """0600; and it is gone afterwards, also one that was left behind."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with forwarded(link.connection, 1, path):
        assert path.stat().st_mode & 0o777 == 0o600

    assert not path.exists()


async def test_a_client_that_leaves_while_the_channel_opens_leaks_nothing(
    link: Any, listening: Any, tmp_path: Path, until: Any
) -> None:
    """asyncssh's own forwarding forgets such a channel (asyncssh#823); here host and client both end."""
    ended = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal ended
        await reader.read()
        ended += 1

    async with listening(serve) as server, forwarded(link.connection, server.port, tmp_path / "s"):
        for _ in range(50):
            with socket.socket(socket.AF_UNIX) as client:
                client.setblocking(False)
                client.connect(str(tmp_path / "s"))
        await until(lambda: ended == 50)
        await until(lambda: not link.connection._channels)


async def test_a_client_that_is_cut_ends_the_channel(link: Any, listening: Any, tmp_path: Path, until: Any) -> None:
    """A client that closes in the middle of a stream is noticed by what it streams from."""
    noticed = asyncio.Event()

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not reader.at_eof():
                writer.write(b"token\n")
                await writer.drain()
                await asyncio.sleep(0.001)
        finally:
            noticed.set()

    async with listening(stream) as server, forwarded(link.connection, server.port, tmp_path / "s"):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        assert await reader.readline() == b"token\n"
        writer.transport.abort()
        await asyncio.wait_for(noticed.wait(), 10)
        await until(lambda: not link.connection._channels)


async def test_a_port_where_nobody_listens_closes_the_client_and_says_why(link: Any, sshd: Any, tmp_path: Path) -> None:
    """The client sees its connection end; `problem` has the host's reason."""
    async with forwarded(link.connection, 1, tmp_path / "s") as forwarding:
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        assert await reader.read() == b""
        writer.close()
        assert "Connect call failed" in forwarding.problem

        sshd.forwards = False
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        assert await reader.read() == b""
        writer.close()
        assert forwarding.problem == "open failed"


async def test_a_lost_connection_ends_the_clients(link: Any, sshd: Any, listening: Any, tmp_path: Path) -> None:
    """Nobody waits for a host that has gone."""
    async with listening(echo) as server, forwarded(link.connection, server.port, tmp_path / "s"):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(b"x")
        assert await reader.read(1) == b"x"

        await sshd.stop()

        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
