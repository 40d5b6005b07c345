import asyncio
import os
from pathlib import Path

import pytest

from olladist.ssh.feed import feed


async def read(descriptor: int) -> bytes:
    """What a command gets that has the descriptor for its stdin."""
    cat = await asyncio.create_subprocess_exec("cat", stdin=descriptor, stdout=asyncio.subprocess.PIPE)
    return (await cat.communicate())[0]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(bytes(range(256)) * 1000)
    return path


async def test_the_file_itself_is_the_stdin(source: Path) -> None:
    """A command reads from the offset on, and how far it is can be seen."""
    async with feed(source, 1000) as file:
        assert file.sent() == 0
        assert await read(file.stdin) == source.read_bytes()[1000:]
        assert file.sent() == 255_000


async def test_a_head_goes_first(source: Path) -> None:
    """A password line comes before the bytes of the file, and is not counted."""
    async with feed(source, 0, b"secret\n") as file:
        assert await read(file.stdin) == b"secret\n" + source.read_bytes()
        assert file.sent() == 256_000


async def test_a_command_that_stops_reading_leaves_nothing_behind(source: Path) -> None:
    """The cat that fills the pipe ends, and the descriptors are closed."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  the names are not needed
    async with feed(source, 0, b"secret\n") as file:
        head = await asyncio.create_subprocess_exec(
            "head", "-c", "3", stdin=file.stdin, stdout=asyncio.subprocess.DEVNULL
        )
        await head.wait()

    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208  the names are not needed


async def test_progress_is_told_at_the_end_also_of_a_quick_copy(source: Path) -> None:
    """The last call has the whole size, however fast it was."""
    seen: list[int] = []
    ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with feed(source, 0) as file:
        await read(file.stdin)
        ended.set_result(0)
        assert await file.watch(ended, seen.append) == 0

    assert seen == [256_000]
