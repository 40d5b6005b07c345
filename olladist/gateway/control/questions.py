"""What is asked of a backend again and again: a GET, every two seconds for as long as the gateway runs.

httpx takes about 1 ms of CPU for each; two hundred hosts at rest were half a core. docs/performance.md has what they are now.
"""

import asyncio
from typing import cast

from olladist import __version__
from olladist.gateway.control.backends import Backend
from olladist.gateway.control.response_reader import ResponseReader
from olladist.gateway.control.upstreams import Answered, Failed, connecting


class Questions:
    """GETs to one backend, each on a connection that no other is using, which stays open for the next."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        host = backend.url.removeprefix("http://")
        self._fields = f"Host: {host}\r\nUser-Agent: olladist/{__version__}\r\nAccept-Encoding: identity\r\n"
        self._idle: list[_Connection] = []

    async def get(self, path: str, *, bytes_max: int, within: float) -> Answered:
        """The whole answer, of any status; Failed where there is none after `within` seconds, or one of more than `bytes_max`."""
        request = f"GET {path} HTTP/1.1\r\n{self._fields}\r\n".encode("ascii")
        try:
            async with asyncio.timeout(within):
                return await self._ask(request, bytes_max)
        except TimeoutError:
            raise Failed(f"no answer to {path} within {within:g} s", silent=True) from None

    def close(self) -> None:
        """Nobody asks any more."""
        for connection in tuple(self._idle):
            connection.abort()
        self._idle.clear()

    async def _ask(self, request: bytes, bytes_max: int) -> Answered:
        while self._idle:
            connection = self._idle.pop()
            try:
                return await self._ask_on(connection, request, bytes_max)
            except _Stale:
                continue
        return await self._ask_on(await self._connect(), request, bytes_max)

    async def _ask_on(self, connection: "_Connection", request: bytes, bytes_max: int) -> Answered:
        try:
            return await connection.ask(request, bytes_max)
        finally:
            if connection.may_be_used_again:
                self._idle.append(connection)
            else:
                connection.abort()

    async def _connect(self) -> "_Connection":
        loop, backend = asyncio.get_running_loop(), self._backend
        connection = _Connection(self._idle)
        async with connecting():
            if backend.tunnel:
                await loop.create_unix_connection(lambda: connection, str(backend.tunnel))
            else:
                host, _, port = backend.address.rpartition(":")
                await loop.create_connection(lambda: connection, host.strip("[]"), int(port))
        return connection


class _Stale(Failed):
    """It had been closed before it was asked: that says nothing about the backend."""


class _Connection(asyncio.Protocol):
    """One question after the other; one that ends leaves `idle`."""

    def __init__(self, idle: "list[_Connection]") -> None:
        self._idle = idle
        self._transport: asyncio.Transport | None = None
        self._reader: ResponseReader | None = None  # until it has read a whole answer
        self._answer: asyncio.Future[Answered] | None = None
        self._served = False  # and was left open by its last answer

    def ask(self, request: bytes, bytes_max: int) -> asyncio.Future[Answered]:
        """The answer, or Failed."""
        self._answer = asyncio.get_running_loop().create_future()
        self._reader = ResponseReader(bytes_max)
        if self._transport is None:
            self._ended("lost the connection")
        else:
            self._transport.write(request)
        return self._answer

    @property
    def may_be_used_again(self) -> bool:
        """It has answered all that it was asked, and both sides leave it open."""
        answered = self._served and self._reader is None
        return answered and self._transport is not None and not self._transport.is_closing()

    def abort(self) -> None:
        self._answer = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        reader, answer = self._reader, self._answer
        if reader is None or answer is None or answer.done():
            self.abort()  # what nobody has asked for would be taken for the answer to the next question
            return
        try:
            answered = reader.feed(data)
        except Failed as failure:
            answer.set_exception(failure)
            return
        if answered is not None:
            self._served, self._reader = reader.keep, None
            answer.set_result(answered)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self in self._idle:
            self._idle.remove(self)
        self._ended("lost the connection" if exc else "")

    def _ended(self, why: str) -> None:
        reader, answer = self._reader, self._answer
        if reader is None or answer is None or answer.done():
            return
        if self._served and not reader.heard:
            answer.set_exception(_Stale(why))
        elif why:
            answer.set_exception(Failed(why))
        else:
            try:
                answer.set_result(reader.ended())
            except Failed as failure:
                answer.set_exception(failure)
