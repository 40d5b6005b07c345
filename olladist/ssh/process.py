"""A command that runs: how it is steered, and what comes out of it."""

import asyncio
import re
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Callable
from io import RawIOBase
from typing import Protocol

KEPT = 32 * 1024 * 1024  # bytes of stdout and stderr together that are kept
_STDERR_KEPT = 1024 * 1024  # of these for stderr; its end is what explains a failure
_NOISE_KEPT = 64 * 1024  # what a login shell may say before our script starts
_LINE_LIMIT = 1024 * 1024  # a longer line comes in pieces
_POLL = 0.25  # seconds between two calls of `progress`
_AHEAD = 4 * 1024 * 1024  # lines read ahead of the one who iterates over them, then the host waits


class Process(Protocol):
    """A started command; its output goes to the Output it was started with. Local and remote ones exist."""

    def write(self, data: bytes) -> None: ...

    def write_eof(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def signal(self, name: str) -> None:
        """Sends TERM or KILL to the whole process group, as far as our user may."""
        ...

    def abort(self) -> None:
        """Gives the command up without waiting for its end."""
        ...


class Sink:
    """A local file that takes stdout as it comes; what goes wrong with it is kept in `problem`."""

    def __init__(self, file: RawIOBase) -> None:
        self._file = file
        self.written = 0
        self.problem: OSError | None = None

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest and self.problem is None:
                taken = self._file.write(rest) or 0
                self.written += taken
                rest = rest[taken:]
        except OSError as error:
            self.problem = error

    async def watch(self, ended: asyncio.Future[int], progress: Callable[[int], None] | None) -> int | None:
        """Waits for the command's status and tells `progress` how far it is; None as soon as there is a problem."""
        while self.problem is None:
            await asyncio.wait({ended}, timeout=_POLL)
            if progress:
                progress(self.written)
            if ended.done():
                return ended.result()
        return None


class Output:
    """What a command writes, from the line on by which our script says that it has started.

    Everything before that line comes from a login shell's start files, from sudo, or from `nologin`.
    """

    def __init__(self, *, streaming: bool = False, sink: Sink | None = None) -> None:
        self.token = f"olladist-{secrets.token_hex(8)}"
        self.group: int | None = None  # process group of the script on the host; None: it has not started
        self.noise = b""
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.process: Process | None = None
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._start = re.compile(re.escape(self.token).encode() + rb" (\d+)\n")
        self._streaming = streaming
        self._sink = sink
        self._cut = False
        self._paused = False
        self._lines: deque[bytes] = deque()
        self._ahead = 0
        self._more = asyncio.Event()
        self._begun = asyncio.Event()

    def prelude(self, script: str) -> str:
        """The script as it is run: it says its process group first (proc_pid_stat(5), field 5; $$ where there is no /proc)."""
        return (
            "LC_ALL=C.UTF-8; export LC_ALL; "
            "{ read -r _ _ _ _ olladist_group _ </proc/$$/stat; } 2>/dev/null || olladist_group=$$; "
            f"echo {self.token} $olladist_group\n{script}"
        )

    # What the process calls

    def out(self, data: bytes) -> None:
        if self.group is None:
            self.noise += data
            if not (found := self._start.search(self.noise)):
                self.noise = self.noise[-_NOISE_KEPT:]
                return
            self.group = int(found[1])
            self._begun.set()
            self.noise, data = self.noise[: found.start()], self.noise[found.end() :]
        if self._sink:
            self._sink.write(data)
        elif self._streaming:
            self._split(data)
        else:
            self._keep(data)

    def err(self, data: bytes) -> None:
        self.stderr += data
        if len(self.stderr) > 2 * _STDERR_KEPT:
            del self.stderr[:-_STDERR_KEPT]

    def end(self, status: int) -> None:
        if not self.ended.done():
            self.ended.set_result(status)
        self._more.set()
        self._begun.set()

    def lose(self, problem: Exception) -> None:
        """The way to the command is gone."""
        if not self.ended.done():
            self.ended.set_exception(problem)
            self.ended.exception()  # seen: nobody may be waiting any more
        self._more.set()
        self._begun.set()

    # What the caller reads

    async def started(self) -> None:
        """Waits until the script has begun, or ended without."""
        await self._begun.wait()

    async def status(self) -> int:
        """Waits for the end; raises what `lose` was given. Unlike `ended` itself, this may be cancelled."""
        return await asyncio.shield(self.ended)

    def texts(self) -> tuple[str, str]:
        """Stdout and stderr; a last line of stderr says so where stdout was cut."""
        stderr = bytes(self.stderr[-_STDERR_KEPT:]).decode(errors="replace")
        if self._cut:
            stderr += f"\nolladist: the output was cut at {KEPT // 2**20} MiB\n"
        return self.stdout.decode(errors="replace"), stderr

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """Lines as they come, until the command has ended; raises what `lose` was given."""
        while True:
            while self._lines:
                line = self._lines.popleft()
                self._ahead -= len(line) + 1
                if self._paused and self._ahead < _AHEAD // 2 and self.process:
                    self._paused = False
                    self.process.resume_reading()
                yield line
            if self.ended.done():
                if self.stdout:
                    yield bytes(self.stdout)
                self.ended.result()
                return
            self._more.clear()
            await self._more.wait()

    def _keep(self, data: bytes) -> None:
        room = KEPT - _STDERR_KEPT - len(self.stdout)
        self._cut = self._cut or len(data) > room
        self.stdout += data[:room]

    def _split(self, data: bytes) -> None:
        """Whole lines to the queue; the rest waits in `stdout` for its end."""
        *whole, rest = data.split(b"\n")
        if whole:
            whole[0] = bytes(self.stdout) + whole[0]
            self.stdout.clear()
        self.stdout += rest
        if len(self.stdout) > _LINE_LIMIT:
            whole.append(bytes(self.stdout))
            self.stdout.clear()
        self._lines.extend(whole)
        self._ahead += sum(len(line) + 1 for line in whole)
        if self._ahead > _AHEAD and not self._paused and self.process:
            self._paused = True
            self.process.pause_reading()
        if whole:
            self._more.set()
