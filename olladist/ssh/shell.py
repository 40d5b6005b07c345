"""What running scripts has in common on every host: root, limits, the end of what must not go on."""

import asyncio
import signal
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path

from olladist.errors import CommandFailed, ConnectionLost, HostError
from olladist.ssh.process import Output, Process, Sink
from olladist.ssh.runner import Completed
from olladist.ssh.sudo import PROBE, SudoMode, SudoPassword, command, parse_probe, refused
from olladist.ssh.words import quote

# sshd allows 10 sessions on a connection (sshd_config(5), MaxSessions); 4 are left to end commands with.
SESSIONS = 6
_KILLERS = 4
_GRACE = 2.0  # seconds between TERM and KILL
# Without "--", which dash does not take after a signal.
_KILL = """\
kill -TERM -{group}
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    kill -0 -{group} 2>/dev/null || exit 0
    sleep 0.1
done
kill -KILL -{group}
"""


class Shell(ABC):
    """A host on which scripts run; a subclass knows how to start a process there."""

    _signals: bool  # whether Process.signal reaches what our own user has started

    def __init__(self, host: str, password: SudoPassword, *, user: str | None = None) -> None:
        self._host = host
        self._password = password
        self._slots = asyncio.Semaphore(SESSIONS)
        self._killers = asyncio.Semaphore(_KILLERS)
        self._ending: set[asyncio.Task[None]] = set()
        self._deciding = asyncio.Lock()
        self._user = user or "the user"
        self._mode: SudoMode | None = "root" if user == "root" else None
        self._secret: str | None = None

    @property
    def host(self) -> str:
        return self._host

    @abstractmethod
    async def _start(self, argv: tuple[str, ...], output: Output, during: str, stdin: int | None) -> Process:
        """Starts a command; `stdin` is a descriptor to read from, None: what is written to the Process."""

    async def run(
        self, script: str, *, root: bool = False, stdin: bytes = b"", timeout: float | None = 60.0, during: str = ""
    ) -> Completed:
        during = during or "running a command"
        mode = await self._as_root(during) if root else None
        output = Output()
        try:
            async with self._running(output, script, mode, during, data=stdin, timeout=timeout):
                status = await output.status()
        except TimeoutError as error:
            raise _too_slow(self._host, during, timeout, output) from error
        return self._completed(script, status, output, mode, during)

    async def check(
        self, script: str, *, root: bool = False, stdin: bytes = b"", timeout: float | None = 60.0, during: str = ""
    ) -> str:
        done = await self.run(script, root=root, stdin=stdin, timeout=timeout, during=during)
        if done.status != 0:
            raise CommandFailed(self._host, during or "running a command", script, done.status, done.stderr)
        return done.stdout

    async def lines(self, script: str, *, root: bool = False) -> AsyncGenerator[bytes, None]:
        during = "following the output of a command"
        mode = await self._as_root(during) if root else None
        output = Output(streaming=True)
        async with self._running(output, script, mode, during):
            async with aclosing(output.lines()) as lines:
                async for line in lines:
                    yield line
            status = output.ended.result()
        output.stdout.clear()  # the last line was given out already
        done = self._completed(script, status, output, mode, during)
        if status != 0:
            raise CommandFailed(self._host, during, script, status, done.stderr)

    async def get(
        self,
        source: str,
        target: Path,
        *,
        offset: int = 0,
        root: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        during = f"fetching {source}"
        mode = await self._as_root(during) if root else None
        script = f"tail -c +{offset + 1} {quote(source)}"
        try:
            file = target.open("ab", buffering=0)
        except OSError as error:
            raise self._unwritable(target, during, error) from error
        with file:
            sink = Sink(file)
            status, output = await self._fetch(script, mode, during, sink, progress)
        if sink.problem:
            raise self._unwritable(target, during, sink.problem) from sink.problem
        done = self._completed(script, status, output, mode, during)
        if status != 0:
            raise CommandFailed(self._host, during, script, status, done.stderr)

    async def sudo(self) -> SudoMode:
        """How this host lets us become root: "root", "passwordless", "password" (it asks for one) or "none"."""
        async with self._deciding:
            if self._mode is None:
                answer = await self.check(PROBE, during="looking for sudo")
                self._mode, self._user = parse_probe(answer)
            return self._mode

    async def close(self) -> None:
        """Gives commands that are being ended the time for it."""
        if self._ending:
            await asyncio.wait(self._ending, timeout=3 * _GRACE)

    async def _fetch(
        self, script: str, mode: SudoMode | None, during: str, sink: Sink, progress: Callable[[int], None] | None
    ) -> tuple[int, Output]:
        """Runs `script` with its stdout into `sink`; -TERM is the status where `sink` had a problem."""
        output = Output(sink=sink)
        async with self._running(output, script, mode, during):
            status = await sink.watch(output.ended, progress)
        return -signal.SIGTERM if status is None else status, output

    def _readable(self, source: Path, during: str) -> None:
        try:
            source.open("rb").close()
        except OSError as error:
            cause = f"{source} cannot be read on this machine: {error.strerror}"
            raise HostError(self._host, during, cause, hint="is it there, and may you read it?") from error

    def _unwritable(self, target: Path, during: str, error: OSError) -> HostError:
        cause = f"{target} cannot be written on this machine: {error.strerror}"
        return HostError(self._host, during, cause, hint="make room there, or mend its permissions")

    async def _as_root(self, during: str) -> SudoMode:
        """The mode to run with; SudoRefused where the host, or the person who was asked, does not allow it."""
        mode = await self.sudo()
        if mode == "none":
            raise refused(self._host, self._user, during, "sudo is not installed")
        if mode == "password" and self._secret is None:
            self._secret = await self._password.accepted(self._host, self._user, during, self._attempt)
        return mode

    async def _attempt(self, password: str) -> str:
        """What sudo says against a password, "" if it takes it. Nothing follows on stdin that sudo could try as a second one."""
        during = "trying the sudo password"
        output = Output()
        try:
            async with self._running(output, ":", "password", during, secret=password, timeout=30):
                status = await output.status()
        except TimeoutError as error:
            raise _too_slow(self._host, during, 30, output) from error
        if status == 0 and output.group is not None:
            return ""
        return " ".join(output.texts()[1].split()) or f"sudo ended with status {status}"

    def _head(self, mode: SudoMode | None, secret: str | None = None) -> bytes:
        """What sudo reads from stdin before the command does."""
        return f"{secret or self._secret}\n".encode() if mode == "password" else b""

    @asynccontextmanager
    async def _running(
        self,
        output: Output,
        script: str,
        mode: SudoMode | None,
        during: str,
        *,
        data: bytes = b"",
        stdin: int | None = None,
        hold: bool = False,
        timeout: float | None = None,
        secret: str | None = None,
    ) -> AsyncIterator[None]:
        """A started command in one of our session slots; it is ended with the context, and only then the slot is free.

        It reads `data`, and more that is written to the process with `hold`, or from the descriptor `stdin`. TimeoutError
        ends it `timeout` seconds after it had its slot.
        """
        argv = command(output.prelude(script), mode)
        if stdin is None:
            data = self._head(mode, secret) + data
        await self._slots.acquire()
        starting = asyncio.ensure_future(self._start(argv, output, during, stdin))
        try:
            async with asyncio.timeout(timeout):
                output.process = process = await asyncio.shield(starting)
                if stdin is None:
                    process.write(data)
                    if not hold:
                        process.write_eof()
                yield
        finally:
            ending = asyncio.create_task(self._finish(starting, output, mode))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            # A host that does not even start a command is not waited for.
            if starting.done() and not output.ended.done():
                await asyncio.shield(ending)

    async def _finish(self, starting: asyncio.Future[Process], output: Output, mode: SudoMode | None) -> None:
        try:
            await asyncio.wait({starting})
            if starting.cancelled() or starting.exception():
                return
            if not output.ended.done():
                await self._stop(starting.result(), output, mode)
        finally:
            self._slots.release()

    async def _stop(self, process: Process, output: Output, mode: SudoMode | None) -> None:
        """TERM to the process group, KILL if that does not end it, then the channel is dropped."""
        with suppress(TimeoutError):  # it may be about to say which group it is
            async with asyncio.timeout(_GRACE):
                await output.started()
        if output.group is None or (self._signals and mode not in ("passwordless", "password")):
            for name in ("TERM", "KILL"):
                process.signal(name)
                await asyncio.wait({output.ended}, timeout=_GRACE)
                if output.ended.done():
                    return
        else:
            await self._kill(output.group, mode)
            await asyncio.wait({output.ended}, timeout=_GRACE)
        if not output.ended.done():
            process.signal("KILL")
            process.abort()

    async def _kill(self, group: int, mode: SudoMode | None) -> None:
        """Ends a group by another command.

        What sudo has started our user may not signal, and over a channel sshd lets nobody signal who logged in as root
        (session.c, session_signal_req).
        """
        output = Output()
        argv = command(output.prelude(_KILL.format(group=group)), mode)
        async with self._killers:
            try:
                process = await self._start(argv, output, "ending a command", None)
            except HostError:
                return  # the connection is gone, and with it all that we could do
            process.write(self._head(mode))
            process.write_eof()
            await asyncio.wait({output.ended}, timeout=_GRACE + 3)
            if not output.ended.done():
                process.abort()

    def _completed(self, script: str, status: int, output: Output, mode: SudoMode | None, during: str) -> Completed:
        stdout, stderr = output.texts()
        if output.group is None:
            said = stderr.strip() or output.noise.decode(errors="replace").strip()
            if mode in ("passwordless", "password"):
                raise refused(self._host, self._user, during, " ".join(said.split()) or "sudo did not say why")
            hint = f"see what `ssh {self._host} true` says: the login shell must run commands"
            raise CommandFailed(self._host, during, script, status, said or "the command was not started", hint=hint)
        return Completed(script, status, stdout, stderr)


def _too_slow(host: str, during: str, timeout: float | None, output: Output) -> ConnectionLost:
    tail = " ".join(output.texts()[1].split())[-200:]
    cause = f"no end after {timeout:g} s, so it was ended" + (f"; its last words: {tail}" if tail else "")
    return ConnectionLost(host, during, cause, hint="is the host overloaded, or its disk stuck? then run this again")
