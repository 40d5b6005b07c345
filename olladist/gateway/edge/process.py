"""One edge worker: listens, serves, and ends as it is told."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Sequence

import structlog
import uvloop

from olladist.errors import GatewayError
from olladist.gateway.child import collect_seldom, raise_descriptor_limit, receive_settings, start_log, when_parent_ends
from olladist.gateway.edge.backends import Backends
from olladist.gateway.edge.downstream import Downstream
from olladist.gateway.edge.inference import begin
from olladist.gateway.edge.leases import Leases
from olladist.gateway.edge.tls import HANDSHAKE_SECONDS, SHUTDOWN_SECONDS, Certificate
from olladist.gateway.edge.upstream import IDLE_SECONDS
from olladist.gateway.edge.worker import Worker
from olladist.gateway.settings import Settings

# Linux cuts it to net.core.somaxconn, 4096 on Debian.
_BACKLOG = 4096
# A control process that is there answers at once; one that is being restarted needs a second or two.
_TABLE_SECONDS = 5.0
# The supervisor restarts a control process within a second; nothing is gained by asking more often than this.
_BACKOFF_FIRST, _BACKOFF_MAX = 0.05, 1.0
# Who asks one thing after the other asks again within this; who does not is taken for idle.
_LINGER_SECONDS = 1.0
# How often silence is looked for: 9 000 connections take about 2 ms.
_SWEEP_SECONDS = 1.0
_SLICE = 300  # connections in one go: 0.3 ms

log = structlog.get_logger()


class Edge:
    """The connections of one worker: `start`, then `serve`; `drain` ends it."""

    def __init__(self, number: int, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        backends = Backends(max(1, settings.workers))
        leases = Leases(number, settings.lease_socket, backends)
        self.worker = Worker(settings, loop, backends, leases)
        self._certificate = Certificate(settings.tls_cert, settings.tls_key) if settings.tls_cert else None
        self._clients: set[Downstream] = set()
        self._servers: list[asyncio.Server] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._quiet = asyncio.Event()

    def start(self) -> None:
        """Begins to look for the control process."""
        loop = self.worker.loop
        self._tasks = [loop.create_task(_stay_connected(self.worker.leases)), loop.create_task(self._sweep())]

    async def serve(self, listening: socket.socket) -> None:
        """Accepts from this socket too."""
        loop = self.worker.loop
        if self._certificate is None:
            server = await loop.create_server(self._client, sock=listening, backlog=_BACKLOG)
        else:
            server = await loop.create_server(
                self._client,
                sock=listening,
                backlog=_BACKLOG,
                ssl=self._certificate.context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            )
        self._servers.append(server)

    def _client(self) -> Downstream:
        # A client behind TLS is one once it has shaken hands.
        return Downstream(self.worker, begin, self._clients.add, self._closed)

    def _closed(self, client: Downstream) -> None:
        self._clients.discard(client)
        if self.worker.draining and not self._clients:
            self._quiet.set()

    async def _sweep(self) -> None:
        while True:
            slices = -(-len(self._clients) // _SLICE) or 1
            for part in range(slices):
                await asyncio.sleep(_SWEEP_SECONDS / slices)
                self.sweep(self.worker.loop.time(), slice(part, None, slices))

    def sweep(self, now: float, part: slice = slice(None)) -> None:
        """Some of the clients in each turn: to look at thousands in one go would hold up whoever has a line on the way."""
        for client in tuple(self._clients)[part]:
            client.sweep(now)
        if part.start:
            return
        for backend in self.worker.backends:
            backend.pool.close_older(now - IDLE_SECONDS)
        self.worker.leases.tally(self.worker.counts)
        if self._certificate is not None:
            self._certificate.refresh()

    async def drain(self, grace: float) -> int:
        """Takes no more connections, waits for the answers under way, then ends what is left; returns how many that were."""
        self.worker.draining = True
        for server in self._servers:
            server.close()
        for _ in range(2):
            await asyncio.sleep(0)  # what was accepted in this turn of the loop is known to us in the next
        if self._certificate or any(client.exchange is None for client in self._clients):
            # A client that is about to ask again cannot know that we end: it is answered, and told by that answer.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._quiet.wait(), min(_LINGER_SECONDS, grace))
        self.worker.leaving = True
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


async def _stay_connected(leases: Leases) -> None:
    """Keeps a connection to the control process, for ever."""
    loop = asyncio.get_running_loop()
    delay = _BACKOFF_FIRST
    while True:
        leases.ended.clear()
        try:
            await loop.create_unix_connection(lambda: leases, leases.path)
        except OSError:
            await asyncio.sleep(delay)
            delay = min(2 * delay, _BACKOFF_MAX)
        else:
            delay = _BACKOFF_FIRST
            await leases.ended.wait()
            log.warning("control process is away", going_on="alone")


async def _run(number: int, settings: Settings, listening: Sequence[socket.socket]) -> None:
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
    for sock in listening:
        await edge.serve(sock)
    _say("ready")
    log.info("listening", address=settings.address)
    collect_seldom()
    await stop.wait()
    ended = await edge.drain(settings.grace_seconds)
    log.info("stopped", ended=ended)
    _say(f"ended {ended}")


def _say(word: str) -> None:
    """To the supervisor, which may be gone."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(f"{word}\n")
        sys.stdout.flush()


def main(number: int, listening: Sequence[int]) -> None:
    """`listening` are descriptors that the supervisor has left open for us."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a reload is the control process' business
    settings = receive_settings()
    sockets = [socket.socket(fileno=descriptor) for descriptor in listening]
    raise_descriptor_limit()
    start_log(f"edge {number}", verbose=settings.verbose)
    try:
        uvloop.run(_run(number, settings, sockets))
    except GatewayError as error:  # the certificate, where it was broken since the gateway was started
        log.critical(error.message, hint=error.hint)
        sys.exit(error.exit_code)
