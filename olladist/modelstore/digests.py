"""Digests of files on the operator's machine, remembered for as long as a file looks the same."""

import asyncio
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import msgspec

from olladist import places
from olladist.errors import UsageError
from olladist.ollama.digests import Digest

# One read per turn in a thread: long enough to cost nothing (40 GB are 2400 turns), short enough for Ctrl-C.
CHUNK = 16 << 20
# A file that changes within the resolution of its time stamp looks unchanged (git calls it racy). 2 s is the coarsest
# resolution in use, FAT's; a younger file is hashed again next time.
RACY_NS = 2 * 10**9
# 200 bytes each: the whole cache stays below 2 MB.
MAX_REMEMBERED = 10_000

Progress = Callable[[int, int], None]


class _Seen(msgspec.Struct, frozen=True, array_like=True):
    size: int
    mtime_ns: int
    inode: int
    device: int
    digest: str


class LocalDigests:
    """Hashes files; a file with the size, time, inode and device of last time is not read again."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or places.cache_dir() / "digests.json"
        self._seen = self._load()

    async def of(self, file: Path, progress: Progress | None = None) -> Digest:
        """The file's sha256; UsageError where it cannot be read or changes meanwhile."""
        try:
            with file.open("rb") as opened:
                before = os.fstat(opened.fileno())
                known = self._seen.get(str(file))
                if known and known == _looks(before, known.digest):
                    return known.digest
                digest = await _hash(opened, before.st_size, progress)
                after = os.fstat(opened.fileno())
        except OSError as error:
            raise UsageError(f"{file} cannot be read: {error.strerror}") from error
        if _looks(before, digest) != _looks(after, digest):
            raise UsageError(f"{file} changed while it was read", hint="run this again once it is complete")
        self._seen.pop(str(file), None)
        if before.st_mtime_ns < time.time_ns() - RACY_NS:
            self._seen[str(file)] = _looks(before, digest)
        self._save()
        return digest

    def _load(self) -> dict[str, _Seen]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, _Seen])
        except (OSError, msgspec.DecodeError):
            return {}  # a cache: what is lost is hashed again

    def _save(self) -> None:
        newest = dict(list(self._seen.items())[-MAX_REMEMBERED:])
        handle, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(newest))
        Path(temporary).replace(self._path)


def _looks(stat: os.stat_result, digest: Digest) -> _Seen:
    return _Seen(stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_dev, digest)


async def hash_file(path: Path, progress: Progress | None = None) -> Digest:
    """The digest of a file, read to its end now; OSError where it cannot be."""
    with path.open("rb") as file:
        return await _hash(file, os.fstat(file.fileno()).st_size, progress)


async def _hash(file: BinaryIO, size: int, progress: Progress | None) -> Digest:
    total, state = 0, hashlib.sha256()

    def step() -> int:
        chunk = file.read(CHUNK)
        state.update(chunk)
        return len(chunk)

    while read := await asyncio.to_thread(step):
        total += read
        if progress:
            progress(total, size)
    return "sha256:" + state.hexdigest()
