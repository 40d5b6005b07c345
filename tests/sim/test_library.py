"""Models of a simulated Ollama, through its API and on disk."""

import hashlib
import json
from pathlib import Path
from typing import Any

from olladist.ollama.manifest import parse_manifest
from olladist.ollama.names import parse_name
from olladist.sim.store import Store
from tests.sim.conftest import ASK, Ollama, Serve

DIGEST = "sha256:" + hashlib.sha256(b"hello").hexdigest()


def status(text: str) -> list[Any]:
    return [json.loads(line).get("status", json.loads(line).get("error")) for line in text.splitlines()]


async def names(ollama: Ollama) -> list[str]:
    return [row["name"] for row in (await ollama.client.get("/api/tags")).json()["models"]]


async def test_what_is_put_into_the_store_is_listed_without_a_restart(ollama: Ollama, tmp_path: Path) -> None:
    """The store is read afresh: blobs and manifest copied in beside the API make a model, removing them unmakes it."""
    other = Store(tmp_path / "other")
    source = ollama.server.store
    entry = source.entry(parse_name("sky"))
    for layer in entry.manifest.blobs:
        target = other.blob(layer.digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.blob(layer.digest).read_bytes())
    manifest = source.manifest_file(parse_name("moon:v1"))
    manifest.parent.mkdir(parents=True)
    manifest.write_bytes(entry.manifest.raw)

    assert sorted(await names(ollama)) == ["moon:v1", "sky:latest"]
    manifest.unlink()
    assert await names(ollama) == ["sky:latest"]


async def test_the_store_has_ollamas_layout(ollama: Ollama) -> None:
    """manifests/HOST/NAMESPACE/MODEL/TAG, blobs/sha256-HEX of mode 0644, and digests that are right."""
    root = ollama.server.store.root
    raw = (root / "manifests/registry.ollama.ai/library/sky/latest").read_bytes()
    manifest = parse_manifest(raw)
    row = (await ollama.client.get("/api/tags")).json()["models"][0]

    assert row["digest"] == hashlib.sha256(raw).hexdigest()
    assert row["size"] == manifest.size
    for blob in (root / "blobs").iterdir():
        assert blob.name == "sha256-" + hashlib.sha256(blob.read_bytes()).hexdigest()
        assert blob.stat().st_mode & 0o777 == 0o644


async def test_a_damaged_manifest_is_passed_over(ollama: Ollama) -> None:
    """The others are listed."""
    bad = ollama.server.store.manifest_file(parse_name("bad"))
    bad.parent.mkdir(parents=True)
    bad.write_bytes(b"{")
    (bad.parent / "~wrong name").write_bytes(b"{}")

    assert await names(ollama) == ["sky:latest"]


async def test_copy_and_delete(ollama: Ollama) -> None:
    """A copy keeps the blobs alive; the last name takes them along, and the empty folders with them."""
    await ollama.client.post("/api/copy", json={"source": "sky", "destination": "me/heaven:v1"})
    await ollama.client.request("DELETE", "/api/delete", json={"model": "SKY"})
    blobs = len(list((ollama.server.store.root / "blobs").iterdir()))
    gone = await ollama.client.request("DELETE", "/api/delete", json={"model": "sky"})
    await ollama.client.request("DELETE", "/api/delete", json={"model": "me/heaven:v1"})

    assert gone.status_code == 404
    assert blobs == 2
    assert list((ollama.server.store.root / "blobs").iterdir()) == []
    assert not (ollama.server.store.root / "manifests").exists()


async def test_blobs_are_hashed_on_their_way_in(ollama: Ollama) -> None:
    """201 for a new one, 200 for one that is there, 400 for the wrong digest and nothing left behind."""
    before = len(list((ollama.server.store.root / "blobs").iterdir()))
    created = await ollama.client.post(f"/api/blobs/{DIGEST}", content=b"hello")
    again = await ollama.client.post(f"/api/blobs/{DIGEST}", content=b"hello")
    there = await ollama.client.head(f"/api/blobs/{DIGEST}")
    wrong = await ollama.client.post(f"/api/blobs/sha256:{'0' * 64}", content=b"hello")

    assert [answer.status_code for answer in (created, again, there, wrong)] == [201, 200, 200, 400]
    assert len(list((ollama.server.store.root / "blobs").iterdir())) == before + 1


async def test_the_registry_has_a_few_names(serve: Serve) -> None:
    """A known one is pulled with progress lines and one success; an unknown one ends with Ollama's own words."""
    async with serve() as ollama:
        pulled = await ollama.client.post("/api/pull", json={"model": "llama3.2:1b"})
        unknown = await ollama.client.post("/api/pull", json={"model": "nope"})
        whole = await ollama.client.post("/api/pull", json={"model": "nope", "stream": False})
        answer = await ollama.post("/api/chat", {"model": "llama3.2:1b", "messages": ASK, "stream": False})

        lines = status(pulled.text)
        assert (lines[0], lines[-3:]) == (
            "pulling manifest",
            ["verifying sha256 digest", "writing manifest", "success"],
        )
        assert status(unknown.text) == ["pulling manifest", "pull model manifest: file does not exist"]
        assert (whole.status_code, whole.json()) == (500, {"error": "pull model manifest: file does not exist"})
        assert answer["message"]["content"] == " Small models answer fast."


async def test_nothing_can_be_pushed(ollama: Ollama) -> None:
    """The stream says so."""
    pushed = await ollama.client.post("/api/push", json={"model": "sky"})

    assert status(pushed.text) == ["retrieving manifest", "push: the simulated registry takes no models"]


async def test_pruning_removes_what_no_manifest_names(ollama: Ollama) -> None:
    """At start every stray file in blobs/ goes, partial downloads as well; our own folder beside it stays."""
    store = ollama.server.store
    stray = store.root / "blobs/sha256-123"
    stray.write_bytes(b"x")
    ours = store.root / ".olladist/part"
    ours.parent.mkdir()
    ours.write_bytes(b"x")

    assert store.prune() == 1
    assert ours.exists()
    assert await names(ollama) == ["sky:latest"]
