"""Answers that are kept, to be given again where nobody can be asked: which there are, which go, and the page that gives them to workers."""

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as WebRoute

from olladist.gateway.control import fallback
from olladist.gateway.control.cache_file import Answer, CacheFile, Entry, Kept
from olladist.gateway.control.web import error_response, response
from olladist.gateway.lease import Keep
from olladist.inventory.model import Gateway
from olladist.ollama import framing
from olladist.ollama.routes import Dialect

log = structlog.get_logger()

# What workers send with their question, and drop from what clients send (edge.head.for_control).
INTERNAL_HEADER, INTERNAL = "x-olladist-internal", "cache"

# A row beside its body: digests, names, times, the index.
_ROW_BYTES = 512
# Answers on their way to the disk: 16 of the largest. A disk that is slower than that keeps the rest out.
_PENDING_BYTES_MAX = 16 * 2**20
# Answers that were asked for and may come: more than a worker's connections are of no use.
_EXPECTED_MAX = 10_000
# An answer that is there already is replaced once half of its time is over: embeddings of the same text come by the thousand.
_FRESH = 0.5

# How often what is too old is looked for: 100 000 answers take about 20 ms.
_SWEEP_SECONDS = 60.0
# By how much a clock may be set back without any harm.
_CLOCK_SECONDS = 3600.0

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Cache:
    """`max_bytes` and `max_age` (seconds) bound it; `wall` is the clock of the world, for answers outlive the process.

    What it knows of each answer is in memory, so that looking one up costs nothing; bodies are read and written in a thread.
    """

    def __init__(self, max_bytes: int, max_age: float, *, wall: Callable[[], float] = time.time) -> None:
        self.max_bytes = max_bytes
        self.max_age = max_age
        self.bytes = 0
        self.stored = self.given = self.dropped = 0  # since the start
        self.on_stored: Callable[[], None] = lambda: None
        self._wall = wall
        self._file: CacheFile | None = None
        self._thread = ThreadPoolExecutor(1, "kept answers")
        self._writing: asyncio.Future[None] | None = None
        self._coming: list[Kept] = []  # when what is being written is written
        self._pending = 0  # bytes of both
        self._works = True  # the file
        self._cleared = 0  # how often
        self._swept = 0.0  # when what is too old was looked for
        self._entries: OrderedDict[str, Entry] = OrderedDict()  # the one that was used longest ago first
        self._expected: OrderedDict[str, str] = OrderedDict()  # contents of the model, by the digest of the answer

    def open(self, path: Path) -> None:
        """From now on answers are kept there, and those that are there are given. Without it nothing is kept.

        The gateway works without kept answers: what is wrong with the file is said, and it is tried again with the next one.
        """
        self._file = CacheFile(path)
        try:
            entries = self._file.open()
        except OSError as error:
            self._failed(error)
            return
        for entry in entries:
            self._entries[entry.digest] = entry
            self.bytes += entry.size

    def __len__(self) -> int:
        return len(self._entries)

    def has(self, digest: str, contents: frozenset[str]) -> bool:
        """Whether there is an answer of a model with one of these contents; no contents: of any."""
        entry = self._entries.get(digest)
        return entry is not None and not self._is_old(entry) and fallback.may_be_given(entry.contents, contents)

    def expect(self, digest: str, contents: str) -> bool:
        """Whether the answer is to be kept that a model of these contents is being asked for."""
        if self._file is None or self._pending > _PENDING_BYTES_MAX // 2:
            return False  # workers need not send what would find no room
        entry = self._entries.get(digest)
        if entry is not None and entry.contents == contents and self._age(entry) < self.max_age * _FRESH:
            self._entries.move_to_end(digest)  # what is asked for stays, though it need not be given
            return False
        # Asked of two models under one name at once: which of them an answer comes from nobody could say.
        self._expected[digest] = contents if self._expected.get(digest, contents) == contents else ""
        self._expected.move_to_end(digest)
        if len(self._expected) > _EXPECTED_MAX:
            self._expected.popitem(last=False)
        return True

    def keep(self, keep: Keep) -> None:
        """Returns at once. An answer that nobody expects any more is not kept, nor one that does not fit."""
        contents = self._expected.pop(keep.cache, None)
        size = len(keep.body) + _ROW_BYTES
        if self._file is None or not contents or not _DIGEST.fullmatch(keep.cache):
            return
        if size > self.max_bytes or self._pending + size > _PENDING_BYTES_MAX:
            self.dropped += 1
            return
        entry = Entry(keep.cache, contents, size, self._wall())
        evicted = self._make_room(entry)
        answer = Answer(keep.content_type, keep.body, entry.stored)
        self._pending += size
        self._coming.append(Kept(entry, keep.key, keep.model, answer, evicted))
        if self._writing is None:
            self._write(self._file)

    def _write(self, file: CacheFile) -> None:
        """All that came while others were written, in one go: a transaction takes the time of ten answers."""
        written, self._coming = self._coming, []
        self._writing = asyncio.get_running_loop().run_in_executor(self._thread, file.put, written)
        cleared = self._cleared
        self._writing.add_done_callback(lambda done: self._written(done, file, written, cleared))

    async def read(self, digest: str) -> Answer | None:
        """None where it has gone since."""
        entry = self._entries.get(digest)
        if self._file is None or entry is None or self._is_old(entry):
            return None
        try:
            answer = await asyncio.get_running_loop().run_in_executor(
                self._thread, self._file.get, digest, self._wall()
            )
        except OSError as error:
            self._failed(error)
            return None
        if answer is None:
            self._forget(digest)
            return None
        if digest in self._entries:
            self._entries.move_to_end(digest)
        self.given += 1
        return answer

    def age(self, answer: Answer) -> int:
        """Whole seconds, as the header field of this name has them (RFC 9111 §5.1)."""
        return max(0, int(self._wall() - answer.stored))

    async def clear(self) -> int:
        """Forgets everything; returns how many answers that were. OSError where they stay on the disk."""
        count = len(self._entries)
        self._expected.clear()
        self._entries.clear()
        self.bytes = 0
        self._cleared += 1
        self._pending -= sum(kept.entry.size for kept in self._coming)
        self._coming.clear()
        if self._file is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._file.clear)
        return count

    def bound(self, max_bytes: int, max_age: float) -> None:
        """From now on."""
        self.max_bytes, self.max_age = max_bytes, max_age

    async def close(self) -> None:
        """What is being written is written first."""
        while self._writing is not None:
            await asyncio.wait([self._writing])
        if self._file is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._file.close)
        self._thread.shutdown()

    def _make_room(self, new: Entry) -> list[str]:
        """Takes out of the index what is too old, and what was used longest ago until `new` fits."""
        self._forget(new.digest)
        gone: list[str] = []
        if not self._swept <= new.stored < self._swept + _SWEEP_SECONDS:
            self._swept = new.stored
            gone = [entry.digest for entry in self._entries.values() if self._is_old(entry)]
        for digest in gone:
            self._forget(digest)
        while self._entries and self.bytes + self._pending + new.size > self.max_bytes:
            digest = next(iter(self._entries))
            self._forget(digest)
            gone.append(digest)
        return gone

    def _written(self, done: asyncio.Future[None], file: CacheFile, written: Sequence[Kept], cleared: int) -> None:
        self._writing = None
        self._pending -= sum(kept.entry.size for kept in written)
        if self._coming:
            self._write(file)
        error = done.exception()
        if isinstance(error, OSError):
            self._failed(error, len(written))
            return
        if error is not None:
            raise error
        self._works = True
        if cleared != self._cleared:
            return  # everything was cleared after them
        for entry in (kept.entry for kept in written):
            self._forget(entry.digest)
            self._entries[entry.digest] = entry
            self.bytes += entry.size
            self.stored += 1
            self.on_stored()

    def _forget(self, digest: str) -> None:
        entry = self._entries.pop(digest, None)
        if entry is not None:
            self.bytes -= entry.size

    def _failed(self, error: OSError, answers: int = 1) -> None:
        """Said once, until it works again."""
        if self._works:
            log.warning("answers cannot be kept", problem=str(error))
        self._works = False
        self.dropped += answers

    def _is_old(self, entry: Entry) -> bool:
        """Or of a time that has not come yet: the clock was wrong when it was stored."""
        return self._age(entry) >= self.max_age or entry.stored > self._wall() + _CLOCK_SECONDS

    def _age(self, entry: Entry) -> float:
        """Never below none, though the clock be set back."""
        return max(0.0, self._wall() - entry.stored)


def cache_bounds(gateway: Gateway) -> tuple[int, float]:
    """Bytes and seconds."""
    return gateway.cache_mb * 2**20, gateway.cache_hours * 3600.0


def pages(cache: Cache) -> Sequence[WebRoute]:
    """For workers alone: to a client that asks the path is unknown."""

    async def cached(request: Request) -> Response:
        if request.headers.get(INTERNAL_HEADER) != INTERNAL:
            return response(framing.NOT_FOUND, framing.PLAIN, 404)
        answer = await cache.read(request.path_params["digest"])
        if answer is None:
            return error_response(Dialect.OLLAMA, 503, "the kept answer is gone, please try again", retry_after=1)
        headers = {"X-Ollama-Fallback": "cache", "Age": str(cache.age(answer))}
        return response(answer.body, answer.content_type, 200, headers)

    return [WebRoute("/cached/{digest}", cached)]
