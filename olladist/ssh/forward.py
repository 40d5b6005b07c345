"""Local connections carried to a port on a host through asyncssh."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import asyncssh

_EARLY_BYTES_MAX = 1024 * 1024


class _Local(asyncio.Protocol):
    """A client of ours. It is not read before the channel is open, as far as the event loop heeds that.

    The one of Python 3.11.2 (Debian 12) reads on after a pause in connection_made, so what comes early is kept.
    """

    _transport: asyncio.Transport

    def __init__(self, forwarding: "Forwarding") -> None:
        self._forwarding = forwarding
        self._early = bytearray()
        self._ended_early = False
        self.channel: asyncssh.SSHTCPChannel[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.pause_reading()
        self._forwarding.opened(self)

    def join(self, channel: "asyncssh.SSHTCPChannel[bytes]") -> None:
        """From now on this client and the channel are one connection."""
        self.channel = channel
        if self._early:
            self.data_received(bytes(self._early))
            self._early.clear()
        if self._ended_early:
            self.eof_received()
        # A client that has left meanwhile is noticed now, by reading its end of file.
        self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self.channel:
            with contextlib.suppress(OSError):  # it may be closed from the other side
                self.channel.write(data)
        elif len(self._early) + len(data) > _EARLY_BYTES_MAX:
            self._transport.abort()
        else:
            self._early += data

    def eof_received(self) -> bool:
        if self.channel:
            with contextlib.suppress(OSError):
                self.channel.write_eof()
        self._ended_early = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self.channel:
            self.channel.abort()

    def pause_writing(self) -> None:
        if self.channel:
            self.channel.pause_reading()

    def resume_writing(self) -> None:
        if self.channel:
            self.channel.resume_reading()

    @property
    def transport(self) -> asyncio.Transport:
        return self._transport


class _Remote(asyncssh.SSHTCPSession[bytes]):
    """The other end of the same connection, on the host."""

    def __init__(self, local: _Local) -> None:
        self._local = local

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self._local.transport.write(data)

    def eof_received(self) -> bool:
        if self._local.transport.can_write_eof() and not self._local.transport.is_closing():
            self._local.transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._local.channel = None
        if exc:
            self._local.transport.abort()
        else:
            self._local.transport.close()

    def pause_writing(self) -> None:
        self._local.transport.pause_reading()

    def resume_writing(self) -> None:
        self._local.transport.resume_reading()


class Forwarding:
    """Every client of a unix socket gets a channel to 127.0.0.1:`port` of the host."""

    def __init__(self, connection: asyncssh.SSHClientConnection, port: int) -> None:
        self._connection = connection
        self._port = port
        self._opening: set[asyncio.Task[None]] = set()
        self.problem = ""  # why the last client got no channel

    def opened(self, local: _Local) -> None:
        task = asyncio.ensure_future(self._open(local))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, local: _Local) -> None:
        try:
            channel, _ = await self._connection.create_connection(lambda: _Remote(local), "127.0.0.1", self._port)
        except (asyncssh.Error, OSError) as error:
            self.problem = getattr(error, "reason", "") or str(error)
            local.transport.abort()
            return
        self.problem = ""
        if local.transport.is_closing():
            channel.abort()
            return
        local.join(channel)

    async def close(self) -> None:
        for task in self._opening:
            task.cancel()
        if self._opening:
            await asyncio.wait(self._opening)


async def forbidden(connection: asyncssh.SSHClientConnection, port: int) -> str:
    """Why the host forwards nothing, "" if it does. A port where nobody listens is no reason; it may be served later."""
    try:
        channel, _ = await connection.create_connection(asyncssh.SSHTCPSession, "127.0.0.1", port)
    except asyncssh.ChannelOpenError as error:
        return error.reason if error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED else ""
    except (asyncssh.Error, OSError):
        return ""  # the connection is gone; who uses it next says so
    channel.abort()
    return ""


@asynccontextmanager
async def forwarded(connection: asyncssh.SSHClientConnection, port: int, path: Path) -> AsyncIterator[Forwarding]:
    """A unix socket (0600) at `path`, in a directory that is ours alone, for as long as the context lasts."""
    forwarding = Forwarding(connection, port)
    path.unlink(missing_ok=True)  # left by one that was killed
    server = await asyncio.get_running_loop().create_unix_server(lambda: _Local(forwarding), path)
    try:
        path.chmod(0o600)
        yield forwarding
    finally:
        server.close()
        await forwarding.close()
        path.unlink(missing_ok=True)
