"""A local file as the standard input of a command, so that its bytes never pass through Python."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

_POLL = 0.25  # seconds between two calls of `progress`


@dataclass(frozen=True, slots=True)
class Feed:
    stdin: int  # descriptor for the command
    file: int
    offset: int

    def sent(self) -> int:
        """Bytes that have been read so far: the command reads with our file offset (open(2), "open file description")."""
        return os.lseek(self.file, 0, os.SEEK_CUR) - self.offset

    async def watch(self, ended: asyncio.Future[int], progress: Callable[[int], None] | None) -> int:
        """Waits for the command's status and tells `progress` how far it is."""
        while True:
            await asyncio.wait({ended}, timeout=_POLL)
            if progress:
                progress(self.sent())
            if ended.done():
                return ended.result()


@asynccontextmanager
async def feed(source: Path, offset: int, head: bytes = b"") -> AsyncIterator[Feed]:
    """`source` from `offset` on as a descriptor to read from, with `head` (a sudo password and newline) before it."""
    file = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.lseek(file, offset, os.SEEK_SET)
        if not head:
            yield Feed(file, file, offset)
            return
        async with _pipe(head, file) as stdin:
            yield Feed(stdin, file, offset)
    finally:
        os.close(file)


@asynccontextmanager
async def _pipe(head: bytes, file: int) -> AsyncIterator[int]:
    """A pipe that gives `head` and then the file, filled by cat(1)."""
    reading, writing = os.pipe()
    try:
        os.write(writing, head)  # far below the 64 KiB of a pipe
        cat = await asyncio.create_subprocess_exec("cat", stdin=file, stdout=writing, start_new_session=True)
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    try:
        yield reading
    finally:
        os.close(reading)  # cat ends by SIGPIPE if the command did not read all of it
        await cat.wait()
