"""New connections to backends and to the control process: the only coroutine of a request, and most requests need none."""

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import Protocol

from olladist.gateway.edge.upstream import Upstream

# A host that was powered off answers nothing. An idle connection is asked after 5 s and given up 3 x 5 s later; bytes that
# nobody acknowledges are given up after 15 s too. Linux would wait two hours, and a quarter of one.
_KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPALIVE": 5, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
_USER_TIMEOUT_MS = 15_000


class Connector(Protocol):
    def connected(self, upstream: Upstream) -> None: ...

    def connect_failed(self, reason: str) -> None: ...


async def connect(address: str, upstream: Upstream, connector: Connector, seconds: float) -> None:
    """Connects `upstream` to "unix:/path" or "host:port" and calls one of the connector's methods, none if cancelled."""
    loop = asyncio.get_running_loop()
    protocol: Callable[[], Upstream] = lambda: upstream  # noqa: E731  asyncio wants a factory
    try:
        async with asyncio.timeout(seconds):
            if address.startswith("unix:"):
                await loop.create_unix_connection(protocol, address.removeprefix("unix:"))
            else:
                host, _, port = address.rpartition(":")
                transport, _ = await loop.create_connection(protocol, host.strip("[]"), int(port))
                set_keepalive(transport.get_extra_info("socket"))
    except TimeoutError:
        upstream.abort()
        connector.connect_failed(f"no connection within {seconds:g} s")
    except (OSError, ValueError) as problem:
        upstream.abort()
        connector.connect_failed(f"no connection ({problem})")
    except asyncio.CancelledError:
        upstream.abort()
        raise
    else:
        connector.connected(upstream)


def set_keepalive(sock: socket.socket) -> None:
    """Makes a dead peer known within about 20 s. uvloop has set TCP_NODELAY."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        # macOS calls the first TCP_KEEPALIVE, Linux TCP_KEEPIDLE; each knows only its own.
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    if sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
