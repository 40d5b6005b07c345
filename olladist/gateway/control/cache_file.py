"""Answers on disk: one SQLite file, written and read in a thread of its own. What it holds can be made again, so a damaged one is put aside."""

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import structlog

log = structlog.get_logger()

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    digest TEXT NOT NULL PRIMARY KEY,
    key TEXT NOT NULL,
    model TEXT NOT NULL,
    model_digest TEXT NOT NULL,
    content_type TEXT NOT NULL,
    body BLOB NOT NULL,
    bytes INTEGER NOT NULL,
    stored REAL NOT NULL,
    used REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_use ON answers (used, digest, model_digest, bytes, stored);
"""

T = TypeVar("T")


class Entry(NamedTuple):
    """What is known of an answer without reading it: the contents of the model that gave it, its size, and when (Unix seconds)."""

    digest: str
    contents: str
    size: int
    stored: float


class Answer(NamedTuple):
    content_type: str
    body: bytes
    stored: float


class Kept(NamedTuple):
    """`evicted` are digests of answers that make room for it."""

    entry: Entry
    key: str
    model: str
    answer: Answer
    evicted: Sequence[str]


class CacheFile:
    """Every method but `open` is for one thread alone. OSError where nothing can be written; a damaged file is no error."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: sqlite3.Connection | None = None

    def open(self) -> list[Entry]:
        """What there is, the one that was used longest ago first."""
        return self._whole(_entries)

    def put(self, answers: Sequence[Kept]) -> None:
        """Each in the place of what was there under its digest; all of them, or where it fails none."""

        def put(database: sqlite3.Connection) -> None:
            with database:
                for entry, key, model, answer, evicted in answers:
                    database.executemany("DELETE FROM answers WHERE digest = ?", [(digest,) for digest in evicted])
                    row = (entry.digest, key, model, entry.contents, answer.content_type, answer.body)
                    database.execute(
                        "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        (*row, entry.size, entry.stored, entry.stored),
                    )

        self._whole(put)

    def get(self, digest: str, now: float) -> Answer | None:
        """Counts as a use."""

        def get(database: sqlite3.Connection) -> Answer | None:
            row = database.execute(
                "SELECT content_type, body, stored FROM answers WHERE digest = ?", (digest,)
            ).fetchone()
            if row is None:
                return None
            with database:
                database.execute("UPDATE answers SET used = ? WHERE digest = ?", (now, digest))
            return Answer(*row)

        return self._whole(get)

    def clear(self) -> None:
        def clear(database: sqlite3.Connection) -> None:
            with database:
                database.execute("DELETE FROM answers")

        self._whole(clear)

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _whole(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Does it on the file, and on a new one where the file turns out to be damaged. OSError for what is another matter."""
        try:
            return self._tried(work)
        except sqlite3.DatabaseError as error:
            if isinstance(
                error, sqlite3.OperationalError
            ):  # no space, no right, locked: the file may be as good as ever
                raise OSError(f"{self._path}: {error}") from error
            self._put_aside(str(error))
            return self._tried(work)

    def _tried(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._database is None:
            self._database = _connect(self._path)
        return work(self._database)

    def _put_aside(self, problem: str) -> None:
        self.close()
        aside = self._path.with_suffix(".damaged")
        log.warning("the kept answers are damaged: put aside, begun anew", file=str(aside), problem=problem)
        self._path.replace(aside)
        for ending in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                self._path.with_name(self._path.name + ending).unlink()


def _connect(path: Path) -> sqlite3.Connection:
    path.touch(mode=0o600)
    # One thread at a time uses it, though not always the same: it is opened where the process starts.
    database = sqlite3.connect(path, timeout=5.0, check_same_thread=False)
    try:
        database.execute("PRAGMA auto_vacuum = FULL")  # what is evicted is given back to the disk
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(_SCHEMA)
    except sqlite3.DatabaseError:
        database.close()
        raise
    return database


def _entries(database: sqlite3.Connection) -> list[Entry]:
    rows = database.execute("SELECT digest, model_digest, bytes, stored FROM answers ORDER BY used, digest")
    return [Entry(*row) for row in rows]
