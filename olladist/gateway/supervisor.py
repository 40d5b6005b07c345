"""The parent of a running gateway: holds its sockets, starts the control process and the workers, restarts what dies, ends all together."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import termios
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import structlog

from olladist import __version__
from olladist.errors import GatewayError
from olladist.gateway.child import start_log
from olladist.gateway.children import Child, answers, restart_delay
from olladist.gateway.notify import notify
from olladist.gateway.orders import Process, Taken, take, take_orders
from olladist.gateway.port import dealt, reserve
from olladist.gateway.running import Running, alive, announced
from olladist.gateway.settings import Settings

# What a worker needs beyond its grace to say good-bye, and a control process to close its tunnels.
_END_SECONDS = 5.0

log = structlog.get_logger()


def run(
    settings: Settings, on_ready: Callable[[str], None] = lambda _: None, *, replacing: Running | None = None
) -> int:
    """Runs a gateway until SIGINT or SIGTERM ends it; returns that signal's number. Call it from the main thread.

    `on_ready` gets the URL once clients are served. The first signal lets answers under way finish, for `grace_seconds` at
    most; the second ends at once. SIGHUP has the inventory read again. With `replacing` it takes over that gateway's sockets, and tells
    it to end once it serves them itself; where it does not come to that, the other goes on.

    Returns SIGTERM too where `olladist proxy stop` ended it, or another gateway has taken over. Raises GatewayError where it cannot start.
    """
    return asyncio.run(_run(settings, on_ready, replacing))


async def _run(settings: Settings, on_ready: Callable[[str], None], replacing: Running | None) -> int:
    with alive(Path(settings.run_dir)), contextlib.ExitStack() as held:
        taken = await take(replacing) if replacing else None
        if taken:
            held.callback(taken.close)
            sockets = taken.sockets
        else:
            sockets = reserve(settings.listen_host, settings.listen_port, settings.workers)
        for listening in sockets:
            held.callback(listening.close)
        here = settings.listening_on(sockets[0].getsockname()[1])
        return await _Supervisor(here, sockets, taken, on_ready).run()


class _Supervisor:
    def __init__(
        self,
        settings: Settings,
        sockets: Sequence[socket.socket],
        taken: Taken | None,
        on_ready: Callable[[str], None],
    ) -> None:
        self.sockets = sockets
        self._settings = settings
        self._taken = taken
        self._on_ready = on_ready
        self._control = Child("control", "olladist.gateway.control", (), settings)
        self._workers = tuple(
            Child(f"edge {n}", "olladist.gateway.edge", (str(n),), settings, [sock.fileno() for sock in mine])
            for n, mine in enumerate(dealt(sockets, max(1, settings.workers)), 1)
        )
        self._ended_by = signal.SIGTERM
        self._announced = contextlib.ExitStack()
        self._serving = False
        self._stop = asyncio.Event()
        self._workers_ended = asyncio.Event()
        # A terminal that is gone says so by SIGHUP too, and then nobody is left to run for.
        self._on_terminal = sys.stderr.isatty()

    async def run(self) -> int:
        start_log("supervisor", verbose=self._settings.verbose)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told, number)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        tasks: list[asyncio.Task[None]] = []
        taking_orders = asyncio.create_task(take_orders(Path(self._settings.supervisor_socket), self))
        try:
            if await self._unless_stopped(self._start()):
                self._serving = (
                    True  # before, a control process that reads the inventory anyway may not be ready for a signal
                )
                await self._relieve()
                self._announce()
                tasks = [asyncio.create_task(self._keep(child)) for child in (self._control, *self._workers)]
                tasks.append(asyncio.create_task(self._watch()))
                await self._stop.wait()
        finally:
            notify("STOPPING=1", os.environ)
            self._announced.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._end()
            taking_orders.cancel()
            await asyncio.gather(taking_orders, return_exceptions=True)
        return int(self._ended_by)

    # What orders.py asks for.

    def processes(self) -> tuple[Process, ...]:
        return tuple(Process(child.name, child.pid) for child in (self._control, *self._workers))

    async def stop(self, *, now: bool) -> int:
        self._told(signal.SIGTERM)
        if now:
            self._kill()
        await self._workers_ended.wait()
        return sum(worker.cut for worker in self._workers)

    def replaced(self) -> None:
        log.warning("another gateway has taken over: ending what runs here, and then this one")
        self._announced.close()
        self._stop.set()

    # What signals ask for.

    def _told(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            self._kill()
        self._ended_by = number
        self._stop.set()

    def _kill(self) -> None:
        for child in (self._control, *self._workers):
            child.signal(signal.SIGKILL)

    def _hung_up(self) -> None:
        if self._on_terminal and _terminal_is_gone():
            self._told(signal.SIGTERM)
        elif self._serving:
            self._control.signal(signal.SIGHUP)

    # Its life.

    def _announce(self) -> None:
        settings = self._settings
        note = Running(
            pid=os.getpid(),
            url=settings.address,
            host=settings.listen_host,
            port=settings.listen_port,
            run_dir=settings.run_dir,
            inventory=settings.inventory,
            since=time.time(),
            version=__version__,
        )
        if not settings.temporary:
            self._announced.enter_context(announced(note))
        notify("READY=1", os.environ)
        self._on_ready(settings.address)

    async def _relieve(self) -> None:
        """Tells the gateway whose sockets we have that it can end."""
        if self._taken:
            try:
                await self._taken.serving()
            except GatewayError as error:
                # We serve, and it does not seem to: this is what was wanted, if not in order.
                log.warning(error.message, hint=error.hint)

    async def _unless_stopped(self, work: Awaitable[None]) -> bool:
        """True when `work` is done, False when a signal came first."""
        working, stopping = asyncio.ensure_future(work), asyncio.create_task(self._stop.wait())
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if working.done():
            working.result()
            return True
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        return False

    async def _start(self) -> None:
        await self._control.start()
        await self._control.serves(answers(self._settings.api_socket))
        for worker in self._workers:
            await worker.start()
        for worker in self._workers:
            await worker.serves(worker.ready.wait())

    async def _keep(self, child: Child) -> None:
        """Starts a child again whenever it ends."""
        loop, failures = asyncio.get_running_loop(), 0
        started = loop.time()
        while True:
            status = await child.ended()
            delay, failures = restart_delay(loop.time() - started, failures)
            log.warning("restarting", child=child.name, status=status, after=delay)
            await asyncio.sleep(delay)
            started = loop.time()
            try:
                await child.start()
            except OSError as error:
                # No more processes or memory for now: as much of an early end as any other.
                log.warning("cannot be started", child=child.name, problem=str(error))

    async def _watch(self) -> None:
        """Workers wait for a control process that hangs, and go on alone without one that is dead."""
        limit = self._settings.hang_seconds
        while True:
            await asyncio.sleep(limit / 4)
            try:
                await asyncio.wait_for(answers(self._settings.api_socket), limit)
            except TimeoutError:
                log.warning("killing", child=self._control.name, silent_for=limit)
                self._control.signal(signal.SIGKILL)

    async def _end(self) -> None:
        """Workers first: what they finish still needs tunnels and leases, and uploads the control process itself."""
        for worker in self._workers:
            worker.signal(signal.SIGTERM)
        # Nobody accepts any more, unless another gateway has these sockets too.
        for listening in self.sockets:
            listening.close()
        await asyncio.gather(*(worker.end(self._settings.grace_seconds + _END_SECONDS) for worker in self._workers))
        self._workers_ended.set()
        self._control.signal(signal.SIGTERM)
        await self._control.end(_END_SECONDS)


def _terminal_is_gone() -> bool:
    try:
        termios.tcgetattr(sys.stderr.fileno())
    except termios.error:
        return True
    return False
