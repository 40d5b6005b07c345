import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from olladist.errors import CommandFailed, ConnectionLost, StoreError
from olladist.modelstore.contents import StorePlace
from olladist.modelstore.stage import STALE, Stage
from olladist.ollama.manifest import Layer, parse_manifest
from olladist.ollama.names import parse_name
from olladist.ollama.store import blob_path, stage_path
from tests.modelstore.hosts import FailingRunner, mode_and_owner
from tests.modelstore.stores import Store, digest, manifest_of

CONTENT = bytes(range(256)) * 300  # larger than what goes along with a script
BLOB = Layer("", digest(CONTENT), len(CONTENT))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "a 'store'")


@pytest.fixture
async def runner() -> AsyncIterator[FailingRunner]:
    runner = FailingRunner("gpu1")
    yield runner
    await runner.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "it's a \\ file"
    path.write_bytes(CONTENT)
    os.utime(path, (0, 0))
    return path


async def test_a_blob_appears_whole_with_the_mode_of_a_store(store: Store, runner: FailingRunner, source: Path) -> None:
    """Verified, 0644, in folders of 0755, with a time of now: an older one would be pruned before its manifest is there."""
    stage = Stage(runner, store.place)
    async with stage.held():
        assert await stage.lacking([BLOB]) == [(BLOB, 0)]
        await stage.receive(BLOB, source, 0)
        assert await stage.lacking([BLOB]) == []

    placed = store.root / blob_path(BLOB.digest)
    assert placed.read_bytes() == CONTENT
    assert mode_and_owner(placed) == (0o644, os.getuid())
    assert mode_and_owner(store.root) == mode_and_owner(placed.parent) == (0o755, os.getuid())
    assert placed.stat().st_mtime > 10**9
    assert store.staged() == []


async def copied(runner: FailingRunner, store: Store, source: Path) -> int:
    """Copies the blob; how much of it was staged."""
    async with (stage := Stage(runner, store.place)).held():
        [(_, staged)] = await stage.lacking([BLOB])
        await stage.receive(BLOB, source, staged)
    return staged


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.sampled_from([0, 1, len(CONTENT) - 1]) | st.integers(0, len(CONTENT) - 1))
async def test_a_copy_that_is_cut_anywhere_goes_on_there(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What has arrived is not sent again, and the store's lock does not stand in the way."""
    folder = tmp_path_factory.mktemp("cut")
    store, runner, source = Store(folder / "store"), FailingRunner("gpu1"), folder / "source"
    source.write_bytes(CONTENT)
    runner.cut = cut
    with pytest.raises(ConnectionLost):
        await copied(runner, store, source)
    assert store.files() == {}

    again = FailingRunner("gpu1")
    assert await copied(again, store, source) == cut

    assert again.sent == len(CONTENT) - cut
    assert store.files() == {blob_path(BLOB.digest): CONTENT}


async def test_a_part_that_is_whole_is_verified_and_not_sent(store: Store, runner: FailingRunner, source: Path) -> None:
    """The interruption came between the copy and its check."""
    store.part(CONTENT, len(CONTENT))
    async with (stage := Stage(runner, store.place)).held():
        await stage.receive(BLOB, source, len(CONTENT))

    assert runner.sent == 0
    assert store.files() == {blob_path(BLOB.digest): CONTENT}


async def test_a_damaged_part_is_sent_once_more_as_a_whole(store: Store, runner: FailingRunner, source: Path) -> None:
    """Resuming onto wrong bytes ends well all the same."""
    store.write(stage_path(BLOB.digest), b"wrong" * 10)
    async with (stage := Stage(runner, store.place)).held():
        await stage.receive(BLOB, source, 50)

    assert runner.sent == len(CONTENT) - 50 + len(CONTENT)
    assert store.files() == {blob_path(BLOB.digest): CONTENT}


async def test_wrong_content_never_becomes_a_blob(store: Store, runner: FailingRunner, source: Path) -> None:
    """The part is removed and the error names the host, the source and the digest."""
    source.write_bytes(CONTENT[::-1])
    async with (stage := Stage(runner, store.place)).held():
        with pytest.raises(StoreError, match=r"gpu1: wrong digest: what arrived from .* has sha256:[0-9a-f]{12}…"):
            await stage.receive(BLOB, source, 0)

    assert store.files() == {}
    assert store.staged() == []


async def test_a_source_that_became_shorter_is_told(store: Store, runner: FailingRunner, source: Path) -> None:
    """Nothing appears."""
    source.write_bytes(CONTENT[:100])
    async with (stage := Stage(runner, store.place)).held():
        with pytest.raises(StoreError, match="gave 100 of 76800 bytes: it changed meanwhile"):
            await stage.receive(BLOB, source, 0)

    assert store.files() == {}


async def test_a_small_blob_goes_along_with_its_check(store: Store, runner: FailingRunner, source: Path) -> None:
    """One round trip, from where a part ends, and with the same care."""
    blob = Layer("", digest(CONTENT[:1000]), 1000)
    store.part(CONTENT[:1000], 400)
    told: list[int] = []
    async with (stage := Stage(runner, store.place)).held():
        calls = runner.calls
        with pytest.raises(StoreError, match="gave 1001 of 1000 bytes"):
            await stage.receive(blob, source, 400)
        source.write_bytes(CONTENT[1:1001])
        [(_, staged)] = await stage.lacking([blob])
        with pytest.raises(StoreError, match="wrong digest"):
            await stage.receive(blob, source, staged)
        source.write_bytes(CONTENT[:1000])
        await stage.receive(blob, source, 0, told.append)

    assert runner.calls - calls == 5  # and one to release the lock
    assert told == [1000]
    assert store.files() == {blob_path(blob.digest): CONTENT[:1000]}


@pytest.mark.parametrize("size", [10, len(CONTENT)])
async def test_a_source_that_is_gone_is_told(size: int, store: Store, runner: FailingRunner, tmp_path: Path) -> None:
    """It was there when the plan was made."""
    async with (stage := Stage(runner, store.place)).held():
        with pytest.raises(StoreError, match="gone cannot be read: No such file"):
            await stage.receive(Layer("", BLOB.digest, size), tmp_path / "gone", 0)


async def test_an_empty_blob_is_a_blob(store: Store, runner: FailingRunner, source: Path) -> None:
    """Zero bytes have a digest too."""
    source.write_bytes(b"")
    async with (stage := Stage(runner, store.place)).held():
        await stage.receive(Layer("", digest(b""), 0), source, 0)

    assert store.files() == {blob_path(digest(b"")): b""}


async def test_a_blob_of_the_wrong_size_is_replaced(store: Store, runner: FailingRunner, source: Path) -> None:
    """A file that a crash has cut short under a valid name counts as missing."""
    store.write(blob_path(BLOB.digest), CONTENT[:10])
    async with (stage := Stage(runner, store.place)).held():
        assert await stage.lacking([BLOB]) == [(BLOB, 0)]
        await stage.receive(BLOB, source, 0)

    assert store.files() == {blob_path(BLOB.digest): CONTENT}


async def test_a_part_that_is_too_long_or_a_link_is_dropped(
    store: Store, runner: FailingRunner, tmp_path: Path
) -> None:
    """Nothing is ever written through a link in the stage."""
    other = Layer("", digest(b"x"), 1)
    store.part(CONTENT + b"more", len(CONTENT) + 4)
    store.write(stage_path(BLOB.digest), CONTENT + b"more")
    (tmp_path / "victim").write_bytes(b"")
    (store.root / stage_path(other.digest)).symlink_to(tmp_path / "victim")
    async with (stage := Stage(runner, store.place)).held():
        assert await stage.lacking([BLOB, other]) == [(BLOB, 0), (other, 0)]

    assert not (store.root / stage_path(BLOB.digest)).exists()
    assert not (store.root / stage_path(other.digest)).is_symlink()


async def test_a_stage_that_is_a_link_is_refused(store: Store, runner: FailingRunner, tmp_path: Path) -> None:
    """It could lead root anywhere."""
    store.root.mkdir()
    (store.root / ".olladist").symlink_to(tmp_path)

    with pytest.raises(StoreError, match="the stage is a link"):
        async with Stage(runner, store.place).held():
            pass


async def test_a_manifest_is_published_in_one_step(store: Store, runner: FailingRunner) -> None:
    """Byte for byte, into folders that are made with it."""
    manifest = parse_manifest(manifest_of(b"config", CONTENT))
    async with (stage := Stage(runner, store.place)).held():
        await stage.publish(parse_name("acme/support:v3"), manifest)
        await stage.remember("f" * 64, manifest.digest)

    assert store.manifest("acme/support:v3") == manifest.raw
    placed = store.root / "manifests/registry.ollama.ai/acme/support/v3"
    assert mode_and_owner(placed) == (0o644, os.getuid())
    assert mode_and_owner(placed.parent) == (0o755, os.getuid())
    assert (store.root / ".olladist/recipes" / ("f" * 64)).read_text() == manifest.digest + "\n"
    assert store.staged() == []


async def test_publishing_survives_an_ollama_that_prunes_folders(store: Store, tmp_path: Path) -> None:
    """Ollama removes empty folders below manifests/ whenever it deletes something, also between our mkdir and mv."""
    prune = f"[ -e {tmp_path}/pruned ] || find manifests -mindepth 1 -type d -empty -delete; touch {tmp_path}/pruned"

    class Pruning(FailingRunner):
        async def check(self, script: str, **how: Any) -> str:
            return await super().check(f'mv() {{ {prune}; command mv "$@"; }}\n{script}', **how)

    manifest = parse_manifest(manifest_of(b"config", CONTENT))
    async with (stage := Stage(Pruning("gpu1"), store.place)).held():
        await stage.publish(parse_name("m"), manifest)

    assert (tmp_path / "pruned").exists()
    assert store.manifest("m") == manifest.raw


async def test_two_syncs_do_not_work_on_one_store(store: Store, runner: FailingRunner) -> None:
    """The second one learns who is at work, and is let in afterwards."""
    async with Stage(runner, store.place).held():
        with pytest.raises(
            StoreError, match=rf"another sync is at work there: .*@{socket.gethostname()} pid {os.getpid()}"
        ):
            async with Stage(runner, store.place).held():
                pass
    async with Stage(runner, store.place).held():
        pass

    assert store.staged() == []


async def test_many_who_ask_at_once_are_let_in_one_at_a_time(store: Store, runner: FailingRunner) -> None:
    """Nobody takes a lock for dead that is only being taken."""
    inside: list[int] = []

    async def one() -> str:
        try:
            async with (stage := Stage(runner, store.place)).held():
                inside.append(1)
                assert len(inside) == 1
                await stage.lacking([BLOB])
                inside.pop()
        except StoreError as error:
            return error.cause.partition(":")[0]
        return "done"

    assert (
        {"done"} <= set(await asyncio.gather(*(one() for _ in range(6)))) <= {"done", "another sync is at work there"}
    )


def lock(store: Store, who: str, age: float = 0) -> None:
    path = store.write(".olladist/lock/who", who.encode() + b"\n").parent
    now = path.stat().st_mtime
    os.utime(path, (now - age, now - age))


async def test_a_lock_of_another_machine_holds_until_it_is_stale(store: Store, runner: FailingRunner) -> None:
    """Its holder is heard of every few seconds; a lock that is silent for long is taken over."""
    other = "bob@desk pid 1 since 2025-01-01T00:00:00Z (00)"
    lock(store, other, age=STALE - 30)
    with pytest.raises(StoreError, match="bob@desk"):
        async with Stage(runner, store.place).held():
            pass
    lock(store, other, age=STALE + 30)
    async with Stage(runner, store.place).held():
        assert f"pid {os.getpid()}" in (store.root / ".olladist/lock/who").read_text()


@pytest.mark.parametrize("pid", ["ended", "ours"])
async def test_a_lock_whose_holder_is_dead_is_taken_over_at_once(pid: str, store: Store, runner: FailingRunner) -> None:
    """A process of this machine that is gone, or this very process where it has lost its connection."""
    ended = await asyncio.create_subprocess_exec("true")
    await ended.wait()
    number = ended.pid if pid == "ended" else os.getpid()
    lock(store, f"ann@{socket.gethostname()} pid {number} since 2025-01-01T00:00:00Z (00)")

    async with Stage(runner, store.place).held():
        pass


async def test_an_answer_that_is_not_ours_is_no_lock(store: Store) -> None:
    """Nothing is changed unless the host has said that the lock is taken."""

    class Odd(FailingRunner):
        async def check(self, script: str, **how: Any) -> str:
            return "Welcome!\n"

    with pytest.raises(StoreError, match="cannot be read: 'Welcome!"):
        async with Stage(Odd("gpu1"), store.place).held():
            pass


async def test_a_lock_that_was_taken_over_stops_its_old_holder(
    store: Store, runner: FailingRunner, source: Path
) -> None:
    """It changes nothing more, and leaves the new holder's lock alone."""
    async with (stage := Stage(runner, store.place)).held():
        lock(store, "bob@desk pid 1 since 2025-01-01T00:00:00Z (00)")
        with pytest.raises(StoreError, match="another sync has begun there: the lock was taken over by bob@desk"):
            await stage.publish(parse_name("m"), parse_manifest(manifest_of(b"c", b"w")))

    assert store.files() == {}
    assert "bob@desk" in (store.root / ".olladist/lock/who").read_text()


async def test_a_holder_is_heard_of_while_it_works(store: Store, runner: FailingRunner) -> None:
    """The lock's time moves on by itself."""
    async with Stage(runner, store.place, beat=0.01).held():
        path = store.root / ".olladist/lock"
        os.utime(path, (0, 0))
        async with asyncio.timeout(10):
            while path.stat().st_mtime < 10**9:  # noqa: ASYNC110  a command on the host sets no event
                await asyncio.sleep(0.01)


async def test_parts_that_nobody_came_back_for_are_removed(store: Store, runner: FailingRunner) -> None:
    """After a week; recipes stay."""
    old = store.write(stage_path(digest(b"old")), b"ol")
    store.part(CONTENT, 5)
    recipe = store.write(".olladist/recipes/" + "a" * 64, b"sha256:" + b"0" * 64)
    for path in (old, recipe):
        os.utime(path, (0, 0))
    async with Stage(runner, store.place).held():
        pass

    assert (old.exists(), recipe.exists(), store.staged()) == (False, True, [Path(stage_path(BLOB.digest)).name])


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("cat: write error: No space left on device", "gpu1: the disk is full"),
        ("sh: 1: cannot create x: Permission denied", "gpu1: the store is not ours to change"),
        ("sh: 1: cannot create x: Read-only file system", "gpu1: the disk cannot be written"),
    ],
)
async def test_what_the_system_says_about_a_copy_is_a_store_error(
    words: str, cause: str, store: Store, source: Path
) -> None:
    """With the next step; the part does not stay to fill the disk up."""

    class Full(FailingRunner):
        async def put(self, source: Path, target: str, **how: object) -> None:
            Path(target).write_bytes(b"half")
            raise CommandFailed(self.host, "copying", "cat", 1, words)

    async with (stage := Stage(Full("gpu1"), store.place)).held():
        with pytest.raises(StoreError, match=cause) as failed:
            await stage.receive(BLOB, source, 0)

    assert failed.value.hint
    assert store.staged() == []


async def test_other_failures_of_a_copy_are_told_as_they_are(store: Store, source: Path) -> None:
    """And leave the part to go on with."""

    class Odd(FailingRunner):
        async def put(self, source: Path, target: str, **how: object) -> None:
            Path(target).write_bytes(b"half")
            raise CommandFailed(self.host, "copying", "cat", 1, "something else")

    async with (stage := Stage(Odd("gpu1"), store.place)).held():
        with pytest.raises(CommandFailed, match="something else"):
            await stage.receive(BLOB, source, 0)
        assert await stage.lacking([BLOB]) == [(BLOB, 4)]


async def test_a_store_that_cannot_be_made_says_so(tmp_path: Path, runner: FailingRunner) -> None:
    """A file is in the way of its folder."""
    (tmp_path / "file").write_text("")

    with pytest.raises(CommandFailed, match="file"):
        async with Stage(runner, StorePlace(str(tmp_path / "file" / "models"))).held():
            pass
