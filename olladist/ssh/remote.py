"""A host over SSH."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import asyncssh

from olladist.errors import CommandFailed, ConnectionLost, HostError
from olladist.places import runtime_dir
from olladist.ssh import local
from olladist.ssh.feed import feed
from olladist.ssh.forward import forbidden, forwarded
from olladist.ssh.login import Link
from olladist.ssh.openssh import NotForOpenSSH, OpenSSH
from olladist.ssh.process import Output, Process, Sink
from olladist.ssh.runner import Endpoint
from olladist.ssh.shell import Shell
from olladist.ssh.sudo import SudoMode, SudoPassword, command
from olladist.ssh.words import login_command, quote

_CHUNK = 256 * 1024  # bytes read at once where a file has to pass through us
_SSH_FAILED = 255  # what `ssh` ends with when it is not the command that has ended (ssh(1), EXIT STATUS)
_TRIES = 3
# A session that sshd refuses is asked for again after 0.02, 0.04, … 2.56 s: 5.1 s in all. Nothing has run by then.
_OPENINGS = 9
_OPEN_PAUSE = 0.02

_AGAIN = "is the host still up? what was done so far stays; run this again"
_RESUME = "is the host still up? what has arrived stays there; run this again and the copy goes on"


@dataclass(frozen=True, slots=True)
class Ways:
    """How new connections to a host are made, beside the one that is open."""

    openssh: OpenSSH
    starting: Callable[[Link], AbstractAsyncContextManager[None]]  # keeps the count of logins at once
    pause: Callable[[int], float]  # seconds before try number n


class _Session(asyncssh.SSHClientSession[bytes]):
    """What comes from a command on the host goes to an Output."""

    def __init__(self, host: str, during: str, link: Link, output: Output) -> None:
        self._host = host
        self._during = during
        self._link = link
        self._output = output
        self._status: int | None = None
        self.writable = asyncio.Event()
        self.writable.set()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        (self._output.err if datatype == asyncssh.EXTENDED_DATA_STDERR else self._output.out)(data)

    def eof_received(self) -> bool:
        return True  # a command may close its stdout and go on

    def exit_status_received(self, status: int) -> None:
        self._status = status

    def exit_signal_received(self, signal_name: str, core_dumped: bool, msg: str, lang: str) -> None:
        self._status = -int(getattr(signal, f"SIG{signal_name}", signal.SIGKILL))

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.writable.set()
        if self._status is not None:
            self._output.end(self._status)
        else:
            self._output.lose(_lost(self._host, self._during, self._link, exc))


class RemoteProcess:
    def __init__(self, channel: asyncssh.SSHClientChannel[bytes], session: _Session) -> None:
        self._channel = channel
        self._session = session

    # A channel that is closed cannot be written to; that the command has ended is told to its Output.

    def write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self._channel.write(data)

    def write_eof(self) -> None:
        with contextlib.suppress(OSError):
            self._channel.write_eof()

    async def drain(self) -> None:
        """Waits until the host takes more."""
        await self._session.writable.wait()

    def pause_reading(self) -> None:
        self._channel.pause_reading()

    def resume_reading(self) -> None:
        self._channel.resume_reading()

    def signal(self, name: str) -> None:
        """RFC 4254, 6.9; OpenSSH has it since 7.9 (2018) and sends it to the process group."""
        with contextlib.suppress(OSError):
            self._channel.send_signal(name)

    def abort(self) -> None:
        self._channel.abort()


class SSHRunner(Shell):
    """Runs on a host over one connection; bulk bytes go over others, that OpenSSH makes."""

    _signals = False

    def __init__(self, host: str, link: Link, password: SudoPassword, ways: Ways) -> None:
        super().__init__(host, password, user=link.target.user)
        self._link = link
        self._ways = ways
        self._no_openssh = ""  # why it is not used any more
        self._forwards = False  # whether the host has shown that it does

    @property
    def link(self) -> Link:
        return self._link

    async def _start(self, argv: tuple[str, ...], output: Output, during: str, stdin: int | None) -> Process:
        """A session that has ended counts until sshd next looks around: one that it refuses may fit, and is asked for again."""
        problem: asyncssh.ChannelOpenError
        for attempt in range(_OPENINGS):
            try:
                channel, session = await self._link.connection.create_session(
                    lambda: _Session(self._host, during, self._link, output),
                    login_command(*argv),
                    encoding=None,
                    request_pty=False,
                )
            except asyncssh.ChannelOpenError as error:
                if not self._link.alive():
                    raise _lost(self._host, during, self._link, error) from error
                problem = error
            except (asyncssh.Error, OSError) as error:
                raise _lost(self._host, during, self._link, error) from error
            else:
                return RemoteProcess(channel, cast(_Session, session))
            await asyncio.sleep(_OPEN_PAUSE * 2**attempt)
        hint = "sshd_config of the host needs MaxSessions 1 or more (its default is 10) and no ForceCommand"
        raise ConnectionLost(self._host, during, f"sshd opens no session: {problem.reason}", hint=hint) from problem

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
        done = None
        for attempt in range(_TRIES):
            if self._no_openssh or done:
                break
            await asyncio.sleep(self._ways.pause(attempt))
            done = await self._put_by_openssh(script, mode, source, offset, during, progress)
        status, output = done or await self._put_by_asyncssh(script, mode, source, offset, during, progress)
        completed = self._completed(script, status, output, mode, during)
        if status != 0:
            raise CommandFailed(self._host, during, script, status, completed.stderr)

    @asynccontextmanager
    async def reach(self, port: int) -> AsyncIterator[Endpoint]:
        during = f"reaching port {port}"
        if not self._link.alive():
            raise _lost(self._host, during, self._link, None)
        if not self._forwards:
            await must_forward(self._host, self._link, port, during)
            self._forwards = True
        directory = runtime_dir()
        try:
            async with forwarded(self._link.connection, port, directory / "socket"):
                yield Endpoint(path=str(directory / "socket"))
        finally:
            directory.rmdir()

    def ssh_command(self) -> list[str]:
        """Words that start OpenSSH's `ssh` to this host; a remote command may follow. NotForOpenSSH where it cannot."""
        return self._ways.openssh.command(self._link)

    async def close(self) -> None:
        await super().close()
        await self._link.close()

    async def _put_by_openssh(
        self,
        script: str,
        mode: SudoMode | None,
        source: Path,
        offset: int,
        during: str,
        progress: Callable[[int], None] | None,
    ) -> tuple[int, Output] | None:
        """Status and output of the command; None where `ssh` did not get in, so that nothing was sent."""
        async with feed(source, offset, self._head(mode)) as file:
            return await self._by_openssh(
                script, mode, during, Output(), lambda output: file.watch(output.ended, progress), stdin=file.stdin
            )

    async def _fetch(
        self, script: str, mode: SudoMode | None, during: str, sink: Sink, progress: Callable[[int], None] | None
    ) -> tuple[int, Output]:
        done = None
        for attempt in range(_TRIES):
            if self._no_openssh or done:
                break
            await asyncio.sleep(self._ways.pause(attempt))
            done = await self._by_openssh(
                script, mode, during, Output(sink=sink), lambda output: sink.watch(output.ended, progress)
            )
        return done or await super()._fetch(script, mode, during, sink, progress)

    async def _by_openssh(
        self,
        script: str,
        mode: SudoMode | None,
        during: str,
        output: Output,
        moved: Callable[[Output], Awaitable[int | None]],
        *,
        stdin: int | None = None,
    ) -> tuple[int, Output] | None:
        """Runs a command over `ssh` while `moved` watches bytes go; None where `ssh` did not get in."""
        try:
            argv = (*self.ssh_command(), login_command(*command(output.prelude(script), mode)))
        except NotForOpenSSH as error:
            self._no_openssh = str(error)
            return None
        try:
            async with self._ways.starting(self._link):
                process = await local.start(argv, output, stdin=stdin)
                if stdin is None:
                    process.write(self._head(mode))
                    process.write_eof()
                await output.started()
            status = await moved(output)
        except OSError as error:
            self._no_openssh = str(error)
            return None
        finally:
            if output.process and not output.ended.done():
                await local.stop(output)
        if status is None:  # given up by us
            return -signal.SIGTERM, output
        if status == _SSH_FAILED and output.group is None:
            said = output.texts()[1]
            if "Permission denied" in said or "Host key verification failed" in said:
                self._no_openssh = said
            return None
        if status in (_SSH_FAILED, -signal.SIGTERM, -signal.SIGKILL):
            said = " ".join(output.texts()[1].split())
            raise ConnectionLost(self._host, during, f"the connection was cut: {said or 'ssh ended'}", hint=_RESUME)
        return status, output

    async def _put_by_asyncssh(
        self,
        script: str,
        mode: SudoMode | None,
        source: Path,
        offset: int,
        during: str,
        progress: Callable[[int], None] | None,
    ) -> tuple[int, Output]:
        """The same through our own connection: slower, and on our CPU."""
        clock = asyncio.get_running_loop().time
        output = Output()
        async with self._running(output, script, mode, during, hold=True):
            process = cast(RemoteProcess, output.process)
            with source.open("rb", buffering=0) as file:
                file.seek(offset)
                sent, told = 0, clock()
                while not output.ended.done() and (chunk := await asyncio.to_thread(file.read, _CHUNK)):
                    process.write(chunk)
                    await process.drain()
                    sent += len(chunk)
                    if progress and clock() - told >= 0.25:
                        told = clock()
                        progress(sent)
            process.write_eof()
            status = await output.status()
        if progress:
            progress(sent)
        return status, output


async def must_forward(host: str, link: Link, port: int, during: str) -> None:
    """HostError where sshd is not allowed to forward; without this a client would only see its connection end."""
    if reason := await forbidden(link.connection, port):
        hint = "sshd_config of the host needs AllowTcpForwarding yes (or local), and no PermitOpen that leaves this port out"
        raise HostError(host, during, f"sshd forwards nothing: {reason}", hint=hint)


def _lost(host: str, during: str, link: Link, error: Exception | None) -> ConnectionLost:
    said = link.ending.reason or getattr(error, "reason", "") or str(error or "") or "it was closed"
    return ConnectionLost(host, during, f"the connection was lost: {said}", hint=_AGAIN)
