import asyncio
import fcntl
import os
from pathlib import Path

import pytest

from olladist.errors import CommandFailed, ConnectionLost, StoreError
from olladist.modelstore.relay import Relay
from olladist.ollama.manifest import Layer
from tests.modelstore.hosts import FailingRunner, Lab
from tests.modelstore.stores import digest

CONTENT = os.urandom(100_000)
BLOB = Layer("", digest(CONTENT), len(CONTENT))


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    lab = Lab(tmp_path, "gpu1")
    lab.stores["gpu1"].blob(CONTENT)
    return lab


def relay(lab: Lab) -> Relay:
    return Relay(lab.runners, lab.places, lab.spool)


async def fetch(relay: Relay, *, told: list[int] | None = None) -> bytes:
    async with relay.fetched("gpu1", BLOB, "gpu2", told.append if told is not None else lambda got: None) as path:
        return path.read_bytes()


async def test_a_blob_is_fetched_once_for_all_who_want_it(lab: Lab) -> None:
    """The second one waits and gets the same file; it goes away with the sync."""
    once, told = relay(lab), list[int]()

    assert await asyncio.gather(*(fetch(once, told=told) for _ in range(3))) == [CONTENT] * 3
    assert told.count(len(CONTENT)) == 1
    once.close()
    assert list(lab.spool.iterdir()) == []


async def test_a_blob_that_did_not_get_where_it_should_is_kept(lab: Lab) -> None:
    """One of two hosts was lost: the next sync need not fetch the blob again."""
    first, second = relay(lab), relay(lab)
    await fetch(first)
    with pytest.raises(ConnectionLost):
        async with first.fetched("gpu1", BLOB, "gpu3", lambda got: None):
            raise ConnectionLost("gpu3", "copying", "lost")
    first.close()
    told: list[int] = []

    assert await fetch(second, told=told) == CONTENT
    assert told == []
    second.close()
    assert list(lab.spool.iterdir()) == []


async def test_an_interrupted_fetch_goes_on_where_it_was(lab: Lab) -> None:
    """What an earlier sync has left is used."""
    lab.spool.mkdir()
    (lab.spool / BLOB.digest.replace(":", "-")).write_bytes(CONTENT[:60_000])
    told: list[int] = []

    assert await fetch(relay(lab), told=told) == CONTENT
    assert min(told) > 60_000


@pytest.mark.parametrize("left", [b"wrong", b"x" * len(CONTENT), b"x" * (len(CONTENT) + 1)])
async def test_what_was_left_damaged_is_fetched_again(left: bytes, lab: Lab) -> None:
    """Wrong bytes, whole or in part, or too many."""
    lab.spool.mkdir()
    (lab.spool / BLOB.digest.replace(":", "-")).write_bytes(left)

    assert await fetch(relay(lab)) == CONTENT


async def test_a_blob_that_is_damaged_on_its_host_is_told_by_that_name(lab: Lab) -> None:
    """And nothing of it is kept."""
    lab.stores["gpu1"].write("blobs/" + BLOB.digest.replace(":", "-"), CONTENT[::-1])

    with pytest.raises(StoreError, match="gpu1: wrong digest: the blob is damaged on this host"):
        await fetch(relay(lab))
    assert list(lab.spool.iterdir()) == []


async def test_a_blob_that_became_shorter_is_told(lab: Lab) -> None:
    """It is not waited for."""
    lab.stores["gpu1"].write("blobs/" + BLOB.digest.replace(":", "-"), CONTENT[:10])

    with pytest.raises(StoreError, match="gpu1: 10 of 100000 bytes came"):
        await fetch(relay(lab))


async def test_a_blob_that_is_gone_is_the_hosts_own_words(lab: Lab) -> None:
    """The runner's error passes through."""
    (lab.stores["gpu1"].root / "blobs" / BLOB.digest.replace(":", "-")).unlink()

    with pytest.raises(CommandFailed, match="No such file"):
        await fetch(relay(lab))


async def test_what_came_before_the_connection_broke_is_kept(lab: Lab) -> None:
    """For the next sync, unless a week goes by."""

    class Breaking(FailingRunner):
        async def get(self, source: str, target: Path, **how: object) -> None:
            target.write_bytes(CONTENT[:30_000])
            raise ConnectionLost(self.host, "fetching", "the connection was lost")

    broken = Relay({"gpu1": Breaking("gpu1")}, lab.places, lab.spool)
    with pytest.raises(ConnectionLost):
        await fetch(broken)
    broken.close()
    [part] = lab.spool.iterdir()
    assert part.read_bytes() == CONTENT[:30_000]

    os.utime(part, (0, 0))
    relay(lab).close()
    assert list(lab.spool.iterdir()) == []


async def test_two_olladists_do_not_append_to_one_file(lab: Lab) -> None:
    """The second is told to wait."""
    lab.spool.mkdir()
    path = lab.spool / BLOB.digest.replace(":", "-")
    path.touch()
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="another olladist on this machine fetches the same blob"):
            await fetch(relay(lab))


async def test_a_blob_larger_than_this_machine_is_refused(lab: Lab) -> None:
    """Before a byte is fetched, with both sizes."""
    huge = Layer("", BLOB.digest, 10**18)

    with pytest.raises(StoreError, match=r"passes through this machine, where 1000000 TB are needed and .* free"):
        async with relay(lab).fetched("gpu1", huge, "gpu2", lambda got: None):
            pass
