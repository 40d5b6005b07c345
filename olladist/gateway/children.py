"""The supervisor's view of its children: how one is started, how it is known to serve, how it ends."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Sequence

from olladist.errors import GatewayError
from olladist.gateway.settings import Settings, encode

# Importing and probing take a second; 200 black-holed hosts do not delay the first answer.
_START_SECONDS = 60.0
_ASK_AGAIN = 0.05

# A child that lives for that long before it ends costs little by being started again at once.
_BACKOFF_FIRST, _BACKOFF_MAX, _STEADY = 0.05, 5.0, 10.0


def restart_delay(lived: float, failures: int) -> tuple[float, int]:
    """(seconds to wait, failures so far) for a child that ended after `lived` seconds and `failures` early ends before."""
    if lived >= _STEADY:
        return _BACKOFF_FIRST, 0
    return min(_BACKOFF_FIRST * 2.0**failures, _BACKOFF_MAX), failures + 1


class Child:
    """A process that is started again and again; `process` is the one that runs now.

    It gets the settings on its stdin, and `descriptors` with their numbers as its last arguments.
    """

    def __init__(
        self, name: str, module: str, arguments: tuple[str, ...], settings: Settings, descriptors: Sequence[int] = ()
    ) -> None:
        self.name = name
        self._words = (sys.executable, "-m", module, *arguments, *map(str, descriptors))
        self._descriptors = tuple(descriptors)
        self._settings = settings
        self.process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self.ready = asyncio.Event()  # it has said so on its stdout
        self.cut = 0  # answers that it has ended before their time, as it said at its end

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
            pass_fds=self._descriptors,
        )
        if self.process.stdin is not None:
            with contextlib.suppress(ConnectionError):
                self.process.stdin.write(encode(self._settings))
                await self.process.stdin.drain()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        if self.process is not None and self.process.stdout is not None:
            while line := await self.process.stdout.readline():
                match line.split():
                    case [b"ready"]:
                        self.ready.set()
                    case [b"ended", number]:
                        self.cut = int(number)

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)

    @property
    def pid(self) -> int:
        """0 while none runs."""
        return self.process.pid if self.process is not None and self.process.returncode is None else 0

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

    async def serves(self, ready: Awaitable[object]) -> None:
        """Waits until what was just started serves; GatewayError where it ends instead."""
        waiting, ended = asyncio.ensure_future(ready), asyncio.create_task(self.ended())
        try:
            await asyncio.wait({waiting, ended}, timeout=_START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return
            if ended.done():
                raise GatewayError(
                    f"the gateway's process {self.name!r} ended with status {ended.result()} before it was ready",
                    hint="what it said before its end stands above",
                )
            raise GatewayError(
                f"the gateway's process {self.name!r} was not ready within {_START_SECONDS:g} s",
                hint="run it again with -v to see what it does",
            )
        finally:
            for task in (waiting, ended):
                task.cancel()
            await asyncio.gather(waiting, ended, return_exceptions=True)


async def answers(path: str) -> None:
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
