import asyncio
import os
from pathlib import Path

import pytest

from olladist.errors import UsageError
from olladist.modelstore.digests import CHUNK, LocalDigests
from tests.modelstore.stores import digest


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF weights")
    os.utime(path, ns=(10**18, 10**18))
    return path


async def test_a_file_that_looks_the_same_is_not_read_again(file: Path, tmp_path: Path) -> None:
    """Size, time and inode stand for the content, also in the next run."""
    first = await LocalDigests(tmp_path / "cache.json").of(file)
    stat = file.stat()
    with file.open("r+b") as opened:
        opened.write(b"GGUF WEIGHTS")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    assert first == digest(b"GGUF weights")
    assert await LocalDigests(tmp_path / "cache.json").of(file) == first


@pytest.mark.parametrize("change", ["size", "time", "inode"])
async def test_a_file_that_looks_different_is_read_again(change: str, file: Path, tmp_path: Path) -> None:
    """Any of the three is enough."""
    cache = tmp_path / "cache.json"
    await LocalDigests(cache).of(file)
    stat, content = file.stat(), b"GGUF WEIGHTS" + (b"!" if change == "size" else b"")
    if change == "inode":
        file.rename(tmp_path / "old")
    file.write_bytes(content)
    later = 10**9 if change == "time" else 0
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + later))

    assert await LocalDigests(cache).of(file) == digest(content)


async def test_a_file_as_young_as_its_time_stamp_is_not_remembered(file: Path, tmp_path: Path) -> None:
    """It may change again without looking different."""
    file.write_bytes(b"GGUF new")
    cache = tmp_path / "cache.json"
    await LocalDigests(cache).of(file)
    stat = file.stat()
    with file.open("r+b") as opened:
        opened.write(b"GGUF NEW")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    assert await LocalDigests(cache).of(file) == digest(b"GGUF NEW")


@pytest.mark.parametrize("damage", [b"", b"[]", b"\xff\x00", b'{"x": 1}'])
async def test_a_damaged_cache_is_an_empty_one(damage: bytes, file: Path, tmp_path: Path) -> None:
    """What is lost is hashed again."""
    (tmp_path / "cache.json").write_bytes(damage)

    assert await LocalDigests(tmp_path / "cache.json").of(file) == digest(b"GGUF weights")


async def test_hashing_tells_how_far_it_is(tmp_path: Path) -> None:
    """Once per chunk, with the size of the file."""
    file, calls = tmp_path / "big", list[tuple[int, int]]()
    file.write_bytes(bytes(CHUNK + 5))

    await LocalDigests(tmp_path / "cache.json").of(file, lambda done, total: calls.append((done, total)))

    assert calls == [(CHUNK, CHUNK + 5), (CHUNK + 5, CHUNK + 5)]


async def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    """A download that is still running has no digest yet."""
    file = tmp_path / "growing"
    file.write_bytes(bytes(CHUNK + 5))

    def grow(done: int, total: int) -> None:
        if done == CHUNK:
            with file.open("ab") as opened:
                opened.write(b"more")

    with pytest.raises(UsageError, match="changed while it was read"):
        await LocalDigests(tmp_path / "cache.json").of(file, grow)


async def test_a_file_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    """The message names it and says why."""
    with pytest.raises(UsageError, match=r"nowhere cannot be read: No such file"):
        await LocalDigests(tmp_path / "cache.json").of(tmp_path / "nowhere")


async def test_hashing_can_be_cancelled_between_chunks(tmp_path: Path) -> None:
    """Ctrl-C does not wait for 40 GB."""
    file, started = tmp_path / "big", asyncio.Event()
    file.write_bytes(bytes(4 * CHUNK))
    task = asyncio.create_task(LocalDigests(tmp_path / "cache.json").of(file, lambda done, total: started.set()))
    await started.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
