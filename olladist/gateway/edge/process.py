"""One edge worker: listens, serves, and ends as it is told."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys

import structlog
import uvloop

from olladist.gateway.child import raise_descriptor_limit, receive_settings, start_log, when_parent_ends
from olladist.gateway.edge.backends import Backends
from olladist.gateway.edge.downstream import Downstream, Exchange
from olladist.gateway.edge.head import RequestHead
from olladist.gateway.edge.inference import Inference
from olladist.gateway.edge.leases import Leases
from olladist.gateway.edge.passage import Passage
from olladist.gateway.edge.upstream import IDLE_SECONDS
from olladist.gateway.edge.worker import Worker, leased_route
from olladist.gateway.settings import Settings

# Linux cuts it to net.core.somaxconn, 4096 on Debian.
_BACKLOG = 4096
# A control process that is there answers at once; one that is being restarted needs a second or two.
_TABLE_SECONDS = 5.0
# How often silence is looked for: 9 000 connections take about 2 ms.
_SWEEP_SECONDS = 1.0
# Tables and pools live long, exchanges are freed by reference counts: young objects need no looking after 700 allocations.
_GC_THRESHOLD = 20_000

log = structlog.get_logger()


class Edge:
    """The connections of one worker: `start`, then `serve`; `drain` ends it."""

    def __init__(self, number: int, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        backends = Backends()
        leases = Leases(number, settings.lease_socket, backends)
        self.worker = Worker(settings, loop, backends, leases)
        self._clients: set[Downstream] = set()
        self._server: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._quiet = asyncio.Event()

    def start(self) -> None:
        """Begins to look for the control process."""
        loop = self.worker.loop
        self._tasks = [loop.create_task(self.worker.leases.run()), loop.create_task(self._sweep())]

    async def serve(self, listening: socket.socket) -> None:
        self._server = await self.worker.loop.create_server(self._client, sock=listening, backlog=_BACKLOG)

    def _client(self) -> Downstream:
        client = Downstream(self.worker, _begin, self._closed)
        self._clients.add(client)
        return client

    def _closed(self, client: Downstream) -> None:
        self._clients.discard(client)
        if self.worker.draining and not self._clients:
            self._quiet.set()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self.sweep(self.worker.loop.time())

    def sweep(self, now: float) -> None:
        for client in tuple(self._clients):
            client.sweep(now)
        for backend in self.worker.backends:
            backend.pool.close_older(now - IDLE_SECONDS)

    async def drain(self, grace: float) -> int:
        """Takes no more connections, waits for the answers under way, then ends what is left; returns how many that were."""
        self.worker.draining = True
        if self._server is not None:
            self._server.close()
        for client in tuple(self._clients):
            client.drain()
        if self._clients:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._quiet.wait(), grace)
        left = [client for client in self._clients if client.exchange is not None]
        for client in left:
            client.end("the gateway is shutting down")
        if self._clients:
            # One turn of the loop writes what was said last.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._quiet.wait(), 1.0)
        for task in self._tasks:
            task.cancel()
        return len(left)


def _begin(client: Downstream, head: RequestHead) -> Exchange:
    route = leased_route(head.method, head.path)
    return Passage(client, head) if route is None else Inference(client, head, route)


def listen(host: str, port: int) -> socket.socket:
    """A socket that shares its port with the other workers. Raises OSError.

    Accepted sockets inherit its keepalive: a client whose machine was switched off frees its slot after a minute.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if sys.platform == "linux":
            for option, value in ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3)):
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


async def _run(number: int, settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    edge = Edge(number, settings, loop)
    stop = asyncio.Event()
    signals: list[int] = []

    def told(signum: int) -> None:
        signals.append(signum)
        if len(signals) > 1:
            os._exit(128 + signum)  # the second time means now
        stop.set()

    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, told, signum)
    when_parent_ends(loop, lambda: os._exit(1))
    edge.start()
    # A worker without a table can only turn clients away; the others have the port until it has one.
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(edge.worker.leases.has_table.wait(), _TABLE_SECONDS)
    await edge.serve(listen(settings.listen_host, settings.listen_port))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    log.info("listening", address=settings.address)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 20, 50)
    await stop.wait()
    ended = await edge.drain(settings.grace_seconds)
    log.info("stopped", ended=ended)


def main(number: int) -> None:
    settings = receive_settings()
    raise_descriptor_limit()
    start_log(f"edge {number}", verbose=settings.verbose)
    uvloop.run(_run(number, settings))
