"""Blobs fetched from one host for others: kept in files of this machine, so that both halves of the way resume.

A blob is fetched once however many hosts want it, and verified here, so that a damaged one is known by its holder's name.
"""

import asyncio
import binascii
import fcntl
import os
import shutil
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from olladist import places
from olladist.errors import StoreError
from olladist.modelstore.contents import StorePlace
from olladist.modelstore.digests import hash_file
from olladist.modelstore.stage import SMALL
from olladist.ollama.manifest import Layer
from olladist.ollama.store import blob_path
from olladist.ssh.runner import Runner
from olladist.ssh.words import quote
from olladist.units import size

# What an interrupted sync leaves behind is worth keeping for the next one, but not for ever.
KEPT_SECONDS = 7 * 24 * 3600.0
# Left free on the operator's disk.
RESERVE = 1 << 30


class Relay:
    """The blobs of one sync that pass through this machine; `close` when it is over."""

    def __init__(
        self, runners: Mapping[str, Runner], stores: Mapping[str, StorePlace], folder: Path | None = None
    ) -> None:
        self._runners = runners
        self._stores = stores
        self._folder = folder or places.cache_dir() / "blobs"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._locks: dict[str, asyncio.Lock] = {}
        self._whole: set[Path] = set()
        self._wanted: dict[Path, set[str]] = defaultdict(set)

    @asynccontextmanager
    async def fetched(
        self, holder: str, blob: Layer, goal: str, progress: Callable[[int], None]
    ) -> AsyncIterator[Path]:
        """A local file with the blob; `progress` gets the bytes that are here, and is not called if all were.

        An error inside the context says that it has not reached the host `goal`: then it is kept for the next sync.
        """
        path = self._folder / blob.digest.replace(":", "-")
        self._wanted[path].add(goal)
        async with self._locks.setdefault(blob.digest, asyncio.Lock()):
            if path not in self._whole:
                async with self._alone(holder, path, blob):
                    await self._complete(holder, blob, path, progress)
                self._whole.add(path)
        yield path
        self._wanted[path].discard(goal)

    def close(self) -> None:
        """Removes what has reached all its goals, and what an earlier sync left and nobody came back for in a week."""
        for path in self._folder.iterdir():
            done = path in self._whole and not self._wanted[path]
            if done or path.stat().st_mtime < time.time() - KEPT_SECONDS:
                path.unlink(missing_ok=True)

    @asynccontextmanager
    async def _alone(self, holder: str, path: Path, blob: Layer) -> AsyncIterator[None]:
        """Keeps a second olladist on this machine from appending to the same file."""
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                cause = "another olladist on this machine fetches the same blob"
                raise StoreError(holder, _fetching(blob), cause, hint="wait for it, then run this again") from None
            yield
        finally:
            os.close(file)

    async def _complete(self, holder: str, blob: Layer, path: Path, progress: Callable[[int], None]) -> None:
        have = path.stat().st_size
        if have > blob.size:
            os.truncate(path, 0)
            have = 0
        # A part that was fetched before may be damaged: then it is fetched once more as a whole.
        for start in dict.fromkeys((have, 0)):
            if start < have:
                os.truncate(path, 0)
            await self._get(holder, blob, path, start, progress)
            if path.stat().st_size != blob.size:
                cause = f"{path.stat().st_size} of {blob.size} bytes came: it changed meanwhile"
                raise StoreError(holder, _fetching(blob), cause, hint="run this again")
            if await hash_file(path) == blob.digest:
                return
        path.unlink()
        raise StoreError(
            holder,
            _fetching(blob),
            "wrong digest: the blob is damaged on this host",
            hint=f"look at the host's disk; remove {blob_path(blob.digest)} from its store and fetch the model again",
        )

    async def _get(self, holder: str, blob: Layer, path: Path, start: int, progress: Callable[[int], None]) -> None:
        if start == blob.size:
            return
        free = shutil.disk_usage(self._folder).free - RESERVE
        if blob.size - start > free:
            cause = f"it passes through this machine, where {size(blob.size - start)} are needed and {size(max(free, 0))} free"
            raise StoreError(holder, _fetching(blob), cause, hint=f"make room below {self._folder}")
        store, runner = self._stores[holder], self._runners[holder]
        source = f"{store.path}/{blob_path(blob.digest)}"
        if blob.size <= SMALL:
            script = f"head -c {blob.size + 1} {quote(source)} | base64"
            encoded = await runner.check(script, root=store.root, during=_fetching(blob))
            path.write_bytes(binascii.a2b_base64(encoded))
            progress(blob.size)
            return
        await runner.get(source, path, offset=start, root=store.root, progress=lambda got: progress(start + got))


def _fetching(blob: Layer) -> str:
    return f"fetching blob {blob.digest.removeprefix('sha256:')[:12]} ({size(blob.size)})"
