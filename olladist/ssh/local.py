"""The operator's own machine as a host: no SSH, the same promises."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import cast

from olladist.errors import CommandFailed, ConnectionLost
from olladist.ssh.feed import feed
from olladist.ssh.process import Output, Process
from olladist.ssh.prompts import NO_PROMPTS
from olladist.ssh.runner import Endpoint
from olladist.ssh.shell import Shell
from olladist.ssh.sudo import SudoPassword
from olladist.ssh.words import quote

# What a login would not have: the operator's settings for another Ollama, or for us, are not this host's.
_OURS = ("OLLAMA_", "OLLADIST_")


class _Events(asyncio.SubprocessProtocol):
    """What a process writes goes to an Output."""

    _transport: asyncio.SubprocessTransport

    def __init__(self, output: Output) -> None:
        self._output = output

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        (self._output.out if fd == 1 else self._output.err)(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """All pipes are closed and the process has ended."""
        status = self._transport.get_returncode()
        self._transport.close()
        self._output.end(-signal.SIGKILL if status is None else status)


class LocalProcess:
    """A process in a group of its own."""

    def __init__(self, transport: asyncio.SubprocessTransport) -> None:
        self._transport = transport
        self._stdin = cast(asyncio.WriteTransport, transport.get_pipe_transport(0))
        self._stdout = cast(asyncio.ReadTransport, transport.get_pipe_transport(1))

    def write(self, data: bytes) -> None:
        self._stdin.write(data)

    def write_eof(self) -> None:
        self._stdin.write_eof()

    def pause_reading(self) -> None:
        self._stdout.pause_reading()

    def resume_reading(self) -> None:
        self._stdout.resume_reading()

    def signal(self, name: str) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._transport.get_pid(), getattr(signal, f"SIG{name}"))

    def abort(self) -> None:
        self._transport.close()


async def start(
    argv: tuple[str, ...], output: Output, *, stdin: int | None = None, env: dict[str, str] | None = None
) -> LocalProcess:
    """Starts a program of this machine in its own session, so that a Ctrl-C in our terminal is ours to handle.

    OSError where it cannot be started.
    """
    transport, _ = await asyncio.get_running_loop().subprocess_exec(
        lambda: _Events(output),
        *argv,
        stdin=asyncio.subprocess.PIPE if stdin is None else stdin,
        start_new_session=True,
        cwd=Path.home(),
        env=env,
    )
    output.process = process = LocalProcess(transport)
    return process


async def stop(output: Output) -> None:
    """Ends a program that `start` started: TERM, and KILL if that does not end it."""
    for name in ("TERM", "KILL"):
        if output.process and not output.ended.done():
            output.process.signal(name)
            await asyncio.wait({output.ended}, timeout=2)


class LocalRunner(Shell):
    """Runs on this machine as our user, in a session of its own."""

    _signals = True

    def __init__(self, host: str, password: SudoPassword | None = None) -> None:
        super().__init__(host, password or SudoPassword(NO_PROMPTS), user="root" if os.getuid() == 0 else None)

    async def _start(self, argv: tuple[str, ...], output: Output, during: str, stdin: int | None) -> Process:
        env = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        try:
            return await start(argv, output, stdin=stdin, env=env)
        except OSError as error:
            raise ConnectionLost(self._host, during, f"cannot start {argv[0]}: {error.strerror}") from error

    async def put(
        self,
        source: Path,
        target: str,
        *,
        offset: int = 0,
        root: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        during = f"copying to {target}"
        mode = await self._as_root(during) if root else None
        script = f"cat >> {quote(target)}"
        self._readable(source, during)
        output = Output()
        async with (
            feed(source, offset, self._head(mode)) as file,
            self._running(output, script, mode, during, stdin=file.stdin),
        ):
            status = await file.watch(output.ended, progress)
        done = self._completed(script, status, output, mode, during)
        if status != 0:
            raise CommandFailed(self._host, during, script, status, done.stderr)

    @asynccontextmanager
    async def reach(self, port: int) -> AsyncIterator[Endpoint]:
        yield Endpoint(port=port)
