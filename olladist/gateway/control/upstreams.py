"""The control process's own HTTP connections to backends: for probes, and for answers that come from one of them."""

import asyncio
from dataclasses import dataclass

import httpx

from olladist import __version__
from olladist.gateway.control.backends import Backend
from olladist.gateway.control.roster import Change, Roster
from olladist.host.api import NO_TLS

# Probes, listings and a few shows at a time; a client's inference goes through a worker, never through here.
_LIMITS = httpx.Limits(max_connections=32, max_keepalive_connections=4, keepalive_expiry=60.0)


class Upstreams:
    """One HTTP client for each backend of the roster, to be made before whoever uses them; it follows no redirect, uses no proxy of the environment and has no timeout of its own."""

    def __init__(self, roster: Roster) -> None:
        self._clients: dict[int, httpx.AsyncClient] = {}
        self._closing: set[asyncio.Task[None]] = set()
        roster.listeners.append(self._changed)

    def client(self, backend: Backend) -> httpx.AsyncClient:
        if backend.id not in self._clients:
            transport = httpx.AsyncHTTPTransport(
                uds=str(backend.tunnel) if backend.tunnel else None,
                verify=NO_TLS,
                limits=_LIMITS,
                trust_env=False,
            )
            self._clients[backend.id] = httpx.AsyncClient(
                transport=transport,
                base_url=backend.url,
                timeout=None,  # noqa: S113  each call has its own bound, as a whole and not by its parts
                trust_env=False,
                headers={"user-agent": f"olladist/{__version__}", "accept-encoding": "identity"},
            )
        return self._clients[backend.id]

    async def close(self) -> None:
        for number in tuple(self._clients):
            self._close(number)
        if self._closing:
            await asyncio.wait(self._closing)

    def _changed(self, change: Change) -> None:
        if change.after is None:
            self._close(change.backend.id)

    def _close(self, number: int) -> None:
        if client := self._clients.pop(number, None):
            task = asyncio.get_running_loop().create_task(client.aclose())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


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
            return Answered(response.status_code, response.headers.get("content-type", ""), bytes(body))
    except TimeoutError:
        raise Failed(f"no answer to {path} within {within:g} s", silent=True) from None
    except httpx.HTTPError as error:
        raise Failed(_problem(error)) from error


def _problem(error: httpx.HTTPError) -> str:
    """What went wrong on the way, in a few words."""
    match error:
        case httpx.ConnectError():
            return "no connection" + (f" ({error})" if str(error) else "")
        case httpx.RemoteProtocolError():
            return f"does not speak HTTP as it should ({error})" if str(error) else "closed the connection"
        case httpx.NetworkError():
            return "lost the connection" + (f" ({error})" if str(error) else "")
        case _:
            return f"{type(error).__name__}: {error}"
