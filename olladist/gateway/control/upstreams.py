"""The control process's own HTTP connections to backends, for answers that come from one of them; what is asked again and again is in questions.py."""

import asyncio
import socket
import sys
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import httpx

from olladist import __version__
from olladist.gateway.control.backends import Backend
from olladist.gateway.control.roster import Change, Roster
from olladist.host.api import NO_TLS

# A few shows at a time; a client's inference goes through a worker, never through here.
_LIMITS = httpx.Limits(max_connections=32, max_keepalive_connections=4, keepalive_expiry=60.0)
# What changes a host is asked on a connection of its own, made for it: none has gone stale, and a hundred pulls that take hours
# keep no probe waiting.
_UNBOUNDED = httpx.Limits(max_connections=None, max_keepalive_connections=0)

CONNECT_SECONDS = 5.0
# The most that Ollama's own client takes (api/client.go maxBufferSize).
LINE_BYTES_MAX = 8 * 10**6

# A peer that was switched off in the middle of a pull is given up after 5 + 3 x 5 s, as workers do it for inference.
_KEEPALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
if sys.platform == "linux":
    _KEEPALIVE += [
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 15_000),
    ]


class Failed(Exception):
    """A question without an answer; the message says why, in words for people. `silent`: only the time ran out."""

    def __init__(self, why: str, *, silent: bool = False) -> None:
        super().__init__(why)
        self.silent = silent


@dataclass(frozen=True, slots=True)
class Answered:
    status: int
    content_type: str
    body: bytes
    date: str = ""  # its own clock, as in the header


@asynccontextmanager
async def connecting() -> AsyncIterator[None]:
    """Failed where what is done in it has no connection after CONNECT_SECONDS, or will have none."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            yield
    except TimeoutError:
        raise Failed(f"no connection within {CONNECT_SECONDS:g} s") from None
    except (OSError, ValueError) as error:  # a name with a label of 64 characters is no OSError
        raise Failed(f"no connection ({getattr(error, 'strerror', '') or error})") from error


class Exchange:
    """An answer whose head is here and whose body comes as it is asked for; it ends with the block that opened it."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self._response = response

    @property
    def content_type(self) -> str:
        return str(self.headers.get("content-type", ""))

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes; Failed where it ends before its end."""
        with _mapped():
            async for chunk in self._response.aiter_raw():
                yield chunk

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """The lines of NDJSON without their ends; empty ones are left out, for no client takes them."""
        rest = bytearray()
        async for chunk in self.chunks():
            first, *others = chunk.split(b"\n")
            rest += first
            for other in others:
                if line := bytes(rest).strip():
                    yield line
                rest = bytearray(other)
            if len(rest) > LINE_BYTES_MAX:
                raise Failed(f"sent a line of more than {LINE_BYTES_MAX} bytes")
        if line := bytes(rest).strip():
            yield line

    async def body(self, bytes_max: int) -> bytes:
        """The whole body; Failed where it is longer than that."""
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) > bytes_max:
                raise Failed(f"answered more than {bytes_max} bytes")
        return bytes(body)


class Upstreams:
    """HTTP clients for each backend of the roster, to be made before whoever uses them; they follow no redirect, use no proxy of the environment and have no timeout of their own."""

    def __init__(self, roster: Roster) -> None:
        self._clients: dict[int, httpx.AsyncClient] = {}
        self._unbounded: dict[int, httpx.AsyncClient] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self.streams: Counter[int] = (
            Counter()
        )  # by backend, those that are open; one that has left the roster may finish them
        roster.listeners.append(self._changed)

    def client(self, backend: Backend) -> httpx.AsyncClient:
        """For questions with short answers."""
        if backend.id not in self._clients:
            self._clients[backend.id] = _client(backend, _LIMITS)
        return self._clients[backend.id]

    def unbounded(self, backend: Backend) -> httpx.AsyncClient:
        """For what changes a host or takes long: as many connections at a time as are asked for, each used once."""
        if backend.id not in self._unbounded:
            self._unbounded[backend.id] = _client(backend, _UNBOUNDED)
        return self._unbounded[backend.id]

    @asynccontextmanager
    async def stream(
        self,
        backend: Backend,
        method: str,
        path: str,
        *,
        content: bytes | AsyncIterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Exchange]:
        """The answer as soon as its head is here, of any status; Failed where there is none.

        Nothing but the connection has a timeout: a registry may take hours. The connection closes with the block, at once, which
        is how an Ollama learns that nobody wants the rest.
        """
        if isinstance(content, bytes):
            headers = {"content-type": "application/json", **(headers or {})}
        client = self.unbounded(backend)
        request = client.build_request(method, path, content=content, headers=headers)
        self.streams[backend.id] += 1
        try:
            with _mapped():
                response = await client.send(request, stream=True)
            try:
                yield Exchange(response)
            finally:
                await response.aclose()
        finally:
            self.streams[backend.id] -= 1

    async def close(self) -> None:
        for number in {*self._clients, *self._unbounded}:
            self._close(number, self._clients, self._unbounded)
        if self._closing:
            await asyncio.wait(self._closing)

    def _changed(self, change: Change) -> None:
        if change.after is None:
            self._close(change.backend.id, self._clients)
            # Each of its connections closes with its stream, and those that are open may finish: nothing is left to be closed.
            self._unbounded.pop(change.backend.id, None)

    def _close(self, number: int, *of: dict[int, httpx.AsyncClient]) -> None:
        for clients in of:
            if client := clients.pop(number, None):
                task = asyncio.get_running_loop().create_task(client.aclose())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)


def _client(backend: Backend, limits: httpx.Limits) -> httpx.AsyncClient:
    transport = httpx.AsyncHTTPTransport(
        uds=str(backend.tunnel) if backend.tunnel else None,
        verify=NO_TLS,
        limits=limits,
        trust_env=False,
        socket_options=None if backend.tunnel else _KEEPALIVE,
    )
    return httpx.AsyncClient(
        transport=transport,
        base_url=backend.url,
        timeout=httpx.Timeout(
            None, connect=CONNECT_SECONDS
        ),  # each call has its own bound, as a whole and not by its parts
        trust_env=False,
        headers={"user-agent": f"olladist/{__version__}", "accept-encoding": "identity"},
    )


@contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise Failed(_problem(error)) from error


async def fetch(
    client: httpx.AsyncClient, method: str, path: str, *, content: bytes | None = None, bytes_max: int, within: float
) -> Answered:
    """The whole answer, of any status; Failed where there is none after `within` seconds, or one of more than `bytes_max`."""
    headers = {"content-type": "application/json"} if content is not None else None
    try:
        async with (
            asyncio.timeout(within),
            client.stream(method, path, content=content, headers=headers) as response,
        ):
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > bytes_max:
                    raise Failed(f"{path} answered more than {bytes_max} bytes")
            said = response.headers
            return Answered(response.status_code, said.get("content-type", ""), bytes(body), said.get("date", ""))
    except TimeoutError:
        raise Failed(f"no answer to {path} within {within:g} s", silent=True) from None
    except httpx.HTTPError as error:
        raise Failed(_problem(error)) from error


def _problem(error: httpx.HTTPError) -> str:
    """What went wrong on the way, in a few words."""
    match error:
        case httpx.ConnectTimeout():
            return f"no connection within {CONNECT_SECONDS:g} s"
        case httpx.ConnectError():
            return "no connection" + (f" ({error})" if str(error) else "")
        case httpx.RemoteProtocolError() if "peer closed" in str(error):
            return "closed the connection before its answer was whole"
        case httpx.RemoteProtocolError():
            return f"does not speak HTTP as it should ({error})" if str(error) else "closed the connection"
        case httpx.NetworkError():
            return "lost the connection" + (f" ({error})" if str(error) else "")
        case _:
            return f"{type(error).__name__}: {error}"
