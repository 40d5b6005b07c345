"""The parent of a running gateway: starts the control process and the workers, restarts what dies, ends all together."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable

import structlog

from olladist.errors import GatewayError
from olladist.gateway.port import reserve
from olladist.gateway.settings import Settings, encode

# Importing and probing take a second; 200 black-holed hosts do not delay the first answer.
_START_SECONDS = 60.0
# What a worker needs beyond its grace to say good-bye, and a control process to close its tunnels.
_END_SECONDS = 5.0
_ASK_AGAIN = 0.05

_BACKOFF_FIRST, _BACKOFF_MAX, _STEADY = 0.05, 5.0, 30.0

log = structlog.get_logger()


def run(settings: Settings, on_ready: Callable[[str], None] = lambda _: None) -> int:
    """Runs a gateway until SIGINT or SIGTERM ends it; returns that signal's number. Call it from the main thread.

    `on_ready` gets the URL once clients are served. The first signal lets answers under way finish, for `grace_seconds` at
    most; the second ends at once. Raises GatewayError where it cannot start.
    """
    return asyncio.run(_Supervisor(settings, on_ready).run())


def restart_delay(lived: float, failures: int) -> tuple[float, int]:
    """(seconds to wait, failures so far) for a child that ended after `lived` seconds and `failures` early ends before."""
    if lived >= _STEADY:
        return _BACKOFF_FIRST, 0
    return min(_BACKOFF_FIRST * 2.0**failures, _BACKOFF_MAX), failures + 1


class Child:
    """A process that is started again and again; `process` is the one that runs now."""

    def __init__(self, name: str, module: str, arguments: tuple[str, ...], settings: Settings) -> None:
        self.name = name
        self._words = (sys.executable, "-m", module, *arguments)
        self._settings = settings
        self.process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self.ready = asyncio.Event()  # it has said so on its stdout

    async def start(self) -> None:
        """Its stdin stays open for as long as we live: the end of it tells the child that we are gone.

        In a session of its own it gets no Ctrl-C from the terminal: to end in order is our part.
        """
        self.ready.clear()
        self.process = await asyncio.create_subprocess_exec(
            *self._words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        if self.process.stdin is not None:
            with contextlib.suppress(ConnectionError):
                self.process.stdin.write(encode(self._settings))
                await self.process.stdin.drain()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        if self.process is not None and self.process.stdout is not None:
            while line := await self.process.stdout.readline():
                if line.strip() == b"ready":
                    self.ready.set()

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)

    async def ended(self) -> int:
        """Its exit status, -N where a signal N ended it."""
        if self.process is None:
            return 0
        return await self.process.wait()

    async def end(self, seconds: float) -> None:
        """Lets it end by itself, for so long."""
        try:
            await asyncio.wait_for(self.ended(), seconds)
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self.ended()
        if self._reading is not None:
            await self._reading


class _Supervisor:
    def __init__(self, settings: Settings, on_ready: Callable[[str], None]) -> None:
        self._socket = reserve(settings.listen_host, settings.listen_port)
        self._settings = settings.listening_on(self._socket.getsockname()[1])
        self._on_ready = on_ready
        self._control = Child("control", "olladist.gateway.control", (), self._settings)
        self._workers = tuple(
            Child(f"edge {number}", "olladist.gateway.edge", (str(number),), self._settings)
            for number in range(1, max(1, settings.workers) + 1)
        )
        self._signals: list[signal.Signals] = []
        self._stop = asyncio.Event()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told, number)
        keepers: list[asyncio.Task[None]] = []
        try:
            if await self._unless_stopped(self._start()):
                self._on_ready(self._settings.address)
                keepers = [asyncio.create_task(self._keep(child)) for child in (self._control, *self._workers)]
                keepers.append(asyncio.create_task(self._watch()))
                await self._stop.wait()
        finally:
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            await self._end()
            self._socket.close()
        return int(self._signals[0])

    def _told(self, number: signal.Signals) -> None:
        self._signals.append(number)
        if self._stop.is_set():
            for child in (self._control, *self._workers):
                child.signal(signal.SIGKILL)
        self._stop.set()

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
        await _ready(self._control, _answers(self._settings.api_socket))
        for worker in self._workers:
            await worker.start()
        for worker in self._workers:
            await _ready(worker, worker.ready.wait())

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
            await child.start()

    async def _watch(self) -> None:
        """Workers wait for a control process that hangs, and go on alone without one that is dead."""
        limit = self._settings.hang_seconds
        while True:
            await asyncio.sleep(limit / 4)
            try:
                await asyncio.wait_for(_answers(self._settings.api_socket), limit)
            except TimeoutError:
                log.warning("killing", child=self._control.name, silent_for=limit)
                self._control.signal(signal.SIGKILL)

    async def _end(self) -> None:
        """Workers first: what they finish still needs tunnels and leases."""
        grace = self._settings.grace_seconds + _END_SECONDS
        for children, seconds in ((self._workers, grace), ((self._control,), _END_SECONDS)):
            for child in children:
                child.signal(signal.SIGTERM)
            await asyncio.gather(*(child.end(seconds) for child in children))


async def _ready(child: Child, ready: Awaitable[object]) -> None:
    """Waits until a child that was just started serves; GatewayError where it ends instead."""
    waiting, ended = asyncio.ensure_future(ready), asyncio.create_task(child.ended())
    try:
        await asyncio.wait({waiting, ended}, timeout=_START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return
        if ended.done():
            raise GatewayError(
                f"the gateway's process {child.name!r} ended with status {ended.result()} before it was ready",
                hint="what it said before its end stands above",
            )
        raise GatewayError(
            f"the gateway's process {child.name!r} was not ready within {_START_SECONDS:g} s",
            hint="run it again with -v to see what it does",
        )
    finally:
        for task in (waiting, ended):
            task.cancel()
        await asyncio.gather(waiting, ended, return_exceptions=True)


async def _answers(path: str) -> None:
    """Returns when an HTTP server answers on a unix socket."""
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(b"GET /api/version HTTP/1.1\r\nHost: olladist\r\nConnection: close\r\n\r\n")
                if (await reader.read(5)).startswith(b"HTTP/"):
                    return
            finally:
                writer.close()
        await asyncio.sleep(_ASK_AGAIN)
