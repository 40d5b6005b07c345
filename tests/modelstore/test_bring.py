from pathlib import Path

import pytest

from olladist.errors import ConnectionLost, StoreError
from olladist.modelstore.bring import Wanted, bring
from olladist.ollama.manifest import Layer
from olladist.ollama.store import blob_path
from tests.modelstore.hosts import Lab
from tests.modelstore.stores import digest

LARGE, SMALL = b"large " * 20_000, b"small"


def wanted(content: bytes, holder: str) -> Wanted:
    return Wanted(Layer("", digest(content), len(content)), holder)


def put(lab: Lab, host: str, *contents: bytes) -> None:
    (lab.stores[host].root / "blobs").mkdir(parents=True, exist_ok=True)
    for content in contents:
        (lab.stores[host].root / blob_path(digest(content))).write_bytes(content)


async def test_blobs_come_from_whoever_has_them(tmp_path: Path) -> None:
    """Verified, and told about; one that is there already does not move."""
    lab = Lab(tmp_path, "gpu1", "gpu2", "gpu3")
    put(lab, "gpu1", LARGE)
    put(lab, "gpu2", SMALL)
    told: dict[str, list[int]] = {}
    needs = [wanted(LARGE, "gpu1"), wanted(SMALL, "gpu2")]
    for _ in range(2):
        await bring(
            needs,
            "gpu3",
            lab.runners,
            lab.places,
            on_progress=lambda blob, done: told.setdefault(blob.digest, []).append(done),
            spool=lab.spool,
        )
    await lab.close()

    for content in (LARGE, SMALL):
        assert (lab.stores["gpu3"].root / blob_path(digest(content))).read_bytes() == content
        assert told[digest(content)] == sorted(told[digest(content)])
        assert told[digest(content)][-1] == len(content)
    assert list(lab.spool.iterdir()) == []


async def test_a_damaged_blob_is_not_brought(tmp_path: Path) -> None:
    """The error names the host that has it."""
    lab = Lab(tmp_path, "gpu1", "gpu2")
    put(lab, "gpu1", LARGE)
    (lab.stores["gpu1"].root / blob_path(digest(LARGE))).write_bytes(LARGE[:-1] + b"?")

    with pytest.raises(StoreError, match="gpu1: wrong digest"):
        await bring([wanted(LARGE, "gpu1")], "gpu2", lab.runners, lab.places, spool=lab.spool)
    await lab.close()
    assert not (lab.stores["gpu2"].root / blob_path(digest(LARGE))).exists()


async def test_a_copy_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    """The next try sends what is missing."""
    lab = Lab(tmp_path, "gpu1", "gpu2")
    put(lab, "gpu1", LARGE)
    lab.runners["gpu2"].cut = 70_000
    with pytest.raises(ConnectionLost):
        await bring([wanted(LARGE, "gpu1")], "gpu2", lab.runners, lab.places, spool=lab.spool)
    lab.runners["gpu2"].cut, lab.runners["gpu2"].sent = None, 0
    await bring([wanted(LARGE, "gpu1")], "gpu2", lab.runners, lab.places, spool=lab.spool)
    await lab.close()

    assert (lab.stores["gpu2"].root / blob_path(digest(LARGE))).read_bytes() == LARGE
    assert lab.runners["gpu2"].sent == len(LARGE) - 70_000
