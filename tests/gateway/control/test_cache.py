import asyncio
import sqlite3
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from olladist.gateway.control.cache import Cache, pages
from olladist.gateway.lease import Keep
from tests.gateway.control.nodes import wait_until

A, B = "a" * 64, "b" * 64
HOUR = 3600.0


def digest(number: int) -> str:
    return sha256(b"%d" % number).hexdigest()


class Clock:
    def __init__(self) -> None:
        self.time = 1_700_000_000.0

    def __call__(self) -> float:
        return self.time


@asynccontextmanager
async def opened(
    path: Path, *, max_bytes: int = 2**20, max_age: float = HOUR, wall: Callable[[], float] | None = None
) -> AsyncIterator[Cache]:
    cache = Cache(max_bytes, max_age, wall=wall or Clock())
    cache.open(path)
    try:
        yield cache
    finally:
        await cache.close()


async def keep(cache: Cache, number: int, body: bytes = b"{}", contents: str = A) -> None:
    """As a worker does after a grant that asked for it; returns when it is on the disk."""
    assert cache.expect(digest(number), contents)
    cache.keep(Keep(digest(number), "", "tiny", "application/json", body))
    await wait_until(lambda: not cache._writing, "the disk")


async def read(cache: Cache, number: int) -> bytes | None:
    answer = await cache.read(digest(number))
    return None if answer is None else answer.body


async def test_answers_outlive_the_process(tmp_path: Path) -> None:
    """What was kept is there after a restart, byte for byte, in a file that is only the user's."""
    path, clock = tmp_path / "kept.sqlite3", Clock()
    async with opened(path, wall=clock) as cache:
        await keep(cache, 1, b'{"embeddings":[[0.25]]}')
        kept = cache.bytes

    clock.time += 60
    async with opened(path, wall=clock) as cache:
        assert (len(cache), cache.bytes) == (1, kept)
        assert cache.has(digest(1), frozenset({A, B}))
        answer = await cache.read(digest(1))
        assert answer
        assert (answer.content_type, answer.body, cache.age(answer)) == (
            "application/json",
            b'{"embeddings":[[0.25]]}',
            60,
        )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_only_the_same_contents_count(tmp_path: Path) -> None:
    """An answer of a model that was replaced is not given; where nobody knows the model now, it is."""
    async with opened(tmp_path / "kept") as cache:
        await keep(cache, 1)

        assert cache.has(digest(1), frozenset({A}))
        assert cache.has(digest(1), frozenset())
        assert not cache.has(digest(1), frozenset({B}))
        assert not cache.has(digest(2), frozenset())
        assert cache.expect(digest(1), B)


async def test_an_answer_grows_old(tmp_path: Path) -> None:
    """It is replaced once half of its time is over, not given once all of it is, and gone from the disk with the next one."""
    clock = Clock()
    path = tmp_path / "kept"
    async with opened(path, wall=clock) as cache:
        await keep(cache, 1)
        clock.time += HOUR / 2 - 1
        assert not cache.expect(digest(1), A)
        clock.time += 2
        assert cache.expect(digest(1), A)
        clock.time += HOUR / 2
        assert not cache.has(digest(1), frozenset())
        assert await read(cache, 1) is None
        await keep(cache, 2)
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT digest FROM answers").fetchall() == [(digest(2),)]
    database.close()


async def test_a_clock_that_was_wrong(tmp_path: Path) -> None:
    """An answer of next year is not given for a year; one of a second ahead is."""
    clock = Clock()
    async with opened(tmp_path / "kept", wall=clock) as cache:
        await keep(cache, 1)
        clock.time -= 10
        assert cache.has(digest(1), frozenset())
        clock.time -= 365 * 24 * HOUR
        assert not cache.has(digest(1), frozenset())


async def test_what_nobody_expects_is_not_kept(tmp_path: Path) -> None:
    """An answer that was not asked for to be kept, comes twice, has no digest for a name, or is too large."""
    async with opened(tmp_path / "kept", max_bytes=5000) as cache:
        cache.keep(Keep(digest(1), "", "tiny", "application/json", b"{}"))
        assert cache.expect("../../etc", A)
        cache.keep(Keep("../../etc", "", "tiny", "application/json", b"{}"))
        assert cache.expect(digest(2), A)
        cache.keep(Keep(digest(2), "", "tiny", "application/json", b"x" * 5000))

        assert (cache._writing, cache.dropped, len(cache)) == (None, 1, 0)


async def test_two_contents_at_once(tmp_path: Path) -> None:
    """While a name means different things on different hosts an answer may come from either: it is not kept, the next one is."""
    async with opened(tmp_path / "kept") as cache:
        assert cache.expect(digest(1), A)
        assert cache.expect(digest(1), B)
        cache.keep(Keep(digest(1), "", "tiny", "application/json", b"{}"))
        assert not cache._writing

        await keep(cache, 1)
        assert cache.has(digest(1), frozenset({A}))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["keep", "read"]), st.integers(0, 8), st.integers(1, 3000)), min_size=1, max_size=40
    )
)
def test_its_bound_holds_and_the_last_used_stay(steps: list[tuple[str, int, int]]) -> None:
    """Whatever is kept and read: never more bytes than allowed, the index is what the disk holds, and what goes was used longest ago."""

    async def run(path: Path) -> None:
        limit, used, clock = 8000, list[int](), Clock()
        async with opened(path, max_bytes=limit, max_age=10**9, wall=clock) as cache:
            for what, number, size in steps:
                clock.time += 1
                before = {n for n in range(9) if cache.has(digest(n), frozenset())}
                if what == "read":
                    assert (await read(cache, number) is not None) == (number in before)
                elif cache.expect(digest(number), A):
                    cache.keep(Keep(digest(number), "", "m", "t", b"x" * size))
                    await wait_until(lambda: not cache._writing, "the disk")
                after = {n for n in range(9) if cache.has(digest(n), frozenset())}
                assert cache.bytes <= limit
                if gone := before - after:
                    assert max(used.index(n) for n in gone) < min((used.index(n) for n in after & before), default=99)
                if number in after:
                    used = [n for n in used if n != number] + [number]
            index, size = dict(cache._entries), cache.bytes
        async with opened(path, max_bytes=limit, max_age=10**9, wall=clock) as cache:
            assert (dict(cache._entries), cache.bytes) == (index, size)

    with TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder) / "kept"))


async def test_a_damaged_file_is_put_aside(tmp_path: Path) -> None:
    """The gateway begins anew, and what was there can be looked at."""
    path = tmp_path / "kept.sqlite3"
    path.write_bytes(b"this is no database" * 1000)

    async with opened(path) as cache:
        assert len(cache) == 0
        await keep(cache, 1)
        assert await read(cache, 1) == b"{}"

    assert path.with_suffix(".damaged").read_bytes().startswith(b"this is no database")


async def test_damage_while_it_runs(tmp_path: Path) -> None:
    """A file that is damaged under our feet costs what was in it, no more."""
    path = tmp_path / "kept.sqlite3"
    async with opened(path) as cache:
        for number in range(20):
            await keep(cache, number, b"x" * 20_000)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * (size - 8192))

    async with opened(path) as cache:
        for number in range(20):
            await read(cache, number)
        await keep(cache, 99)
        assert await read(cache, 99) == b"{}"


async def test_without_a_place_to_write(tmp_path: Path) -> None:
    """The gateway goes on without kept answers; once there is room again they are kept again."""
    folder = tmp_path / "gone"
    async with opened(folder / "kept") as cache:
        assert cache.expect(digest(1), A)
        cache.keep(Keep(digest(1), "", "tiny", "application/json", b"{}"))
        await wait_until(lambda: not cache._writing, "the disk")
        assert (len(cache), cache.stored) == (0, 0)
        assert cache.dropped > 0

        folder.mkdir()
        await keep(cache, 2)
        assert await read(cache, 2) == b"{}"


async def test_many_at_once(tmp_path: Path) -> None:
    """Those that come while others are written are written after them, and closing waits for all."""
    path, told = tmp_path / "kept", list[int]()
    async with opened(path) as cache:
        cache.on_stored = lambda: told.append(len(cache))
        for number in range(50):
            assert cache.expect(digest(number), A)
            cache.keep(Keep(digest(number), "", "tiny", "application/json", b"%d" % number))
    assert told == list(range(1, 51))
    async with opened(path) as cache:
        assert [await read(cache, number) for number in range(50)] == [b"%d" % number for number in range(50)]


async def test_what_cannot_be_written_is_counted(tmp_path: Path) -> None:
    """Each of them, and it is tried again with those that come next."""
    path = tmp_path / "nowhere" / "kept"
    async with opened(path) as cache:
        before = cache.dropped
        for number in range(5):
            assert cache.expect(digest(number), A)
            cache.keep(Keep(digest(number), "", "tiny", "application/json", b"{}"))
        await wait_until(lambda: not cache._writing, "the disk")
        assert (cache.dropped - before, len(cache), cache._pending) == (5, 0, 0)

        path.parent.mkdir()
        await keep(cache, 9)
        assert len(cache) == 1


async def test_clearing(tmp_path: Path) -> None:
    """Everything goes, what is just being written too."""
    path = tmp_path / "kept"
    async with opened(path) as cache:
        await keep(cache, 1)
        assert cache.expect(digest(2), A)
        cache.keep(Keep(digest(2), "", "tiny", "application/json", b"{}"))

        assert cache.expect(digest(3), A)
        cache.keep(Keep(digest(3), "", "tiny", "application/json", b"{}"))

        assert await cache.clear() == 1
        assert (len(cache), cache.bytes) == (0, 0)
        assert await read(cache, 2) is None
        await keep(cache, 4)
        assert len(cache) == 1
    async with opened(path) as cache:
        assert [cache.has(digest(number), frozenset()) for number in range(1, 5)] == [False, False, False, True]


@pytest.fixture
async def ask(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[httpx.Response]]]:
    clock = Clock()
    async with opened(tmp_path / "kept", wall=clock) as cache:
        await keep(cache, 1, b'{"embeddings":[]}')
        clock.time += 7.9
        transport = httpx.ASGITransport(Starlette(routes=list(pages(cache))))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            yield lambda number, **headers: client.get(f"/cached/{digest(number)}", headers=headers)


async def test_a_worker_is_given_an_answer(ask: Callable[..., Awaitable[httpx.Response]]) -> None:
    """As it came, with its age; 503 for one that has gone since it was granted."""
    answer = await ask(1, **{"x-olladist-internal": "cache"})

    assert (answer.status_code, answer.content) == (200, b'{"embeddings":[]}')
    assert answer.headers["content-type"] == "application/json"
    assert (answer.headers["x-ollama-fallback"], answer.headers["age"]) == ("cache", "7")

    gone = await ask(2, **{"x-olladist-internal": "cache"})
    assert (gone.status_code, gone.headers["retry-after"]) == (503, "1")


async def test_a_client_is_not(ask: Callable[..., Awaitable[httpx.Response]]) -> None:
    """To him the path does not exist."""
    answer = await ask(1)

    assert (answer.status_code, answer.text) == (404, "404 page not found")
