import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from olladist.errors import ConnectionLost, HostError, StoreError
from olladist.inventory.model import DeclaredModel, Inventory
from olladist.modelstore.contents import StoreContents
from olladist.modelstore.digests import LocalDigests
from olladist.modelstore.plan import SyncPlan, plan_pull, plan_sync
from olladist.modelstore.scan import scan
from olladist.modelstore.source import read_sources
from olladist.modelstore.transfer import sync
from olladist.ollama.names import parse_name
from olladist.ollama.store import blob_path
from tests.modelstore.fleets import declared, fleet
from tests.modelstore.hosts import Lab
from tests.modelstore.stores import Store, digest

CONFIG, WEIGHTS, TEMPLATE = b"config", b"GGUF" + os.urandom(100_000), b"template"
REGISTRY = {"llama:latest": (CONFIG, WEIGHTS, TEMPLATE)}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    lab = Lab(tmp_path, "gpu1", "gpu2", "gpu3", registry=REGISTRY)
    yield lab
    await lab.close()


def inventory(lab: Lab, *models: DeclaredModel) -> Inventory:
    return replace(fleet(list(lab.stores), *models), path=lab.folder / "inventory.toml")


async def plan(lab: Lab, *models: DeclaredModel) -> SyncPlan:
    """What a sync of these models would do now."""
    contents = {host: await scan(lab.runners[host], store.place) for host, store in lab.stores.items()}
    declared = inventory(lab, *models)
    sources = await read_sources(declared, digests=LocalDigests(lab.folder / "digests.json"))
    return plan_sync(declared, contents, sources)


async def synced(lab: Lab, planned: SyncPlan, **how: object) -> dict[str, HostError | None]:
    return await sync(planned, lab.runners, lab.places, lab.api, spool=lab.spool, **how)  # type: ignore[arg-type]  # passed on


def whole(store: Store) -> bool:
    """Every manifest's blobs are there, and every blob is what its name says; nothing is staged or locked."""
    verify(store)
    return store.staged() == []


def verify(store: Store) -> None:
    for path, content in store.files().items():
        if path.startswith("blobs/"):
            assert path == "blobs/sha256-" + hashlib.sha256(content).hexdigest()
        else:
            document = json.loads(content)
            for layer in (document["config"], *document["layers"]):
                assert (store.root / blob_path(layer["digest"])).stat().st_size == layer["size"]


async def test_a_model_of_one_host_is_copied_to_the_others(lab: Lab) -> None:
    """Byte for byte, through this machine, where nothing of it stays; then there is nothing left to do."""
    manifest = lab.stores["gpu2"].model("llama", CONFIG, WEIGHTS, TEMPLATE)
    model, told = declared("llama"), list[tuple[str, str, int, int]]()

    outcome = await synced(lab, await plan(lab, model), on_progress=lambda *seen: told.append(seen))

    assert outcome == {"gpu1": None, "gpu3": None}
    for store in lab.stores.values():
        assert store.manifest("llama") == manifest.raw
        assert whole(store)
    assert (await plan(lab, model)).empty
    assert {host: (done, total) for host, name, done, total in told} == {
        "gpu1": (manifest.size, manifest.size),
        "gpu3": (manifest.size, manifest.size),
    }
    assert list(lab.spool.iterdir()) == []


async def test_a_file_becomes_a_model_on_one_host_and_the_same_on_all(lab: Lab) -> None:
    """One create; the others get its bytes. A second sync does nothing, a changed Modelfile is made anew."""
    (lab.folder / "w.gguf").write_bytes(WEIGHTS)
    (lab.folder / "Modelfile").write_text("FROM w.gguf\nSYSTEM Be kind.\n")
    model = declared("acme/support:v3", source="Modelfile")

    assert set((await synced(lab, await plan(lab, model))).values()) == {None}

    manifests = {store.manifest("acme/support:v3") for store in lab.stores.values()}
    assert len(manifests) == 1
    assert all(whole(store) for store in lab.stores.values())
    assert [body for ollama in lab.ollamas.values() for body in ollama.created] == [
        {
            "model": "acme/support:v3",
            "system": "Be kind.",
            "files": {"model-1.gguf": digest(WEIGHTS)},
            "stream": False,
        }
    ]
    assert (await plan(lab, model)).empty
    (lab.folder / "Modelfile").write_text("# a comment\nFROM ./w.gguf\nSYSTEM Be kind.\n")
    assert (await plan(lab, model)).empty
    (lab.folder / "Modelfile").write_text("FROM w.gguf\nSYSTEM Be brief.\n")
    assert set((await synced(lab, await plan(lab, model))).values()) == {None}
    assert {store.manifest("acme/support:v3") for store in lab.stores.values()}.isdisjoint(manifests)
    assert (await plan(lab, model)).empty


async def test_a_model_made_from_another_waits_for_it(lab: Lab) -> None:
    """The base is made, copied to where it is needed, and only then built upon."""
    (lab.folder / "w.gguf").write_bytes(WEIGHTS)
    (lab.folder / "Tuned").write_text("FROM base\nSYSTEM Tuned.\n")
    models = (declared("tuned", "gpu1", "gpu2", source="Tuned"), declared("base", source="w.gguf"))

    assert set((await synced(lab, await plan(lab, *models))).values()) == {None}

    assert lab.stores["gpu1"].manifest("tuned") == lab.stores["gpu2"].manifest("tuned")
    assert (await plan(lab, *models)).empty


async def test_a_model_nobody_has_is_pulled_by_each_host_itself(lab: Lab) -> None:
    """With progress as Ollama tells it, and without a lock or a stage of ours."""
    told: list[tuple[str, int, int]] = []
    outcome = await synced(
        lab,
        await plan(lab, declared("llama", "gpu1", "gpu2")),
        on_progress=lambda host, model, done, total: told.append((host, done, total)),
    )

    assert outcome == {"gpu1": None, "gpu2": None}
    assert lab.ollamas["gpu1"].pulled == ["llama:latest"]
    assert [seen[1:] for seen in told if seen[0] == "gpu1"][-1] == (100_018, 100_018)
    assert not (lab.stores["gpu1"].root / ".olladist").exists()


async def test_a_pull_that_fails_says_what_ollama_said(lab: Lab) -> None:
    """On its host; the other models and hosts are not touched by it."""
    outcome = await synced(lab, plan_pull([parse_name("nothing"), parse_name("llama")], ["gpu1"]))

    error = outcome["gpu1"]
    assert isinstance(error, HostError)
    assert "gpu1: Ollama answered: pull model manifest: file does not exist (while pulling nothing:latest)" in str(
        error
    )
    assert lab.stores["gpu1"].manifest("llama")


async def test_an_ollama_with_another_store_is_found_out(lab: Lab) -> None:
    """It says success and the model is not where it should be."""
    (lab.folder / "w.gguf").write_bytes(WEIGHTS)
    lab.ollamas["gpu1"].lies = True

    outcome = await synced(lab, await plan(lab, declared("m", "gpu1", source="w.gguf")))

    assert "Ollama says that it is there, and it is not in" in str(outcome["gpu1"])
    assert "OLLAMA_MODELS" in (outcome["gpu1"] or HostError("", "", "")).hint


async def test_a_host_that_is_lost_in_the_middle_goes_on_in_the_next_sync(lab: Lab) -> None:
    """The others finish; nothing half can be seen; only the rest is sent."""
    lab.stores["gpu2"].model("llama", CONFIG, WEIGHTS, TEMPLATE)
    lab.runners["gpu3"].cut = 20_000
    model = declared("llama")

    outcome = await synced(lab, await plan(lab, model))

    assert outcome["gpu1"] is None
    assert isinstance(outcome["gpu3"], ConnectionLost)
    assert whole(lab.stores["gpu1"])
    assert [path for path in lab.stores["gpu3"].files() if path.startswith("manifests/")] == []
    lab.runners["gpu3"].cut = None
    lab.runners["gpu3"].sent = 0
    again = await plan(lab, model)
    assert [step.describe() for step in again.steps] == [
        "copy llama:latest to gpu3: 2 of 3 blobs, 80 kB from gpu1 (20 kB more are there already)"
    ]
    assert await synced(lab, again) == {"gpu3": None}
    assert lab.runners["gpu3"].sent == again.size
    assert whole(lab.stores["gpu3"])
    assert list(lab.spool.iterdir()) == []


async def test_followers_of_a_maker_that_fails_say_why_they_have_nothing(lab: Lab) -> None:
    """The files they were sent stay, so that the next sync has less to do."""
    (lab.folder / "w.gguf").write_bytes(WEIGHTS)
    model = declared("m", source="w.gguf")
    lab.ollamas["gpu1"].lies = True

    outcome = await synced(lab, await plan(lab, model))

    assert "gpu2: gpu1 did not make it, so there is nothing to copy: Ollama says" in str(outcome["gpu2"])
    assert list(lab.stores["gpu2"].files()) == [blob_path(digest(WEIGHTS))]
    lab.ollamas["gpu1"].lies = False
    assert set((await synced(lab, await plan(lab, model))).values()) == {None}
    assert (await plan(lab, model)).empty


async def test_a_damaged_source_is_named_and_another_holder_takes_over(lab: Lab) -> None:
    """Only where nobody has the blob whole does the copy fail, and it says where to look."""
    for host in ("gpu1", "gpu2"):
        lab.stores[host].model("llama", CONFIG, WEIGHTS, TEMPLATE)
    lab.stores["gpu1"].write(blob_path(digest(WEIGHTS)), WEIGHTS[::-1])
    planned = await plan(lab, declared("llama"))

    assert await synced(lab, planned) == {"gpu3": None}
    assert whole(lab.stores["gpu3"])

    lab.stores["gpu3"].root.rename(lab.folder / "away")
    lab.stores["gpu2"].write(blob_path(digest(WEIGHTS)), WEIGHTS[::-1])
    outcome = await synced(lab, planned)
    assert "gpu3: gpu1, where its blob comes from: wrong digest: the blob is damaged on this host" in str(
        outcome["gpu3"]
    )
    assert not list(lab.stores["gpu3"].root.glob("manifests/*"))


async def test_a_blob_that_vanishes_before_its_manifest_is_there_is_brought_again(lab: Lab) -> None:
    """Ollama removes the layers of a model that it replaces, also those that another model is about to use."""
    lab.stores["gpu1"].model("llama", CONFIG, WEIGHTS, TEMPLATE)
    target = lab.stores["gpu2"].root / blob_path(digest(TEMPLATE))

    def vanish(script: str) -> None:
        if "publish" in script and target.exists():
            target.unlink()
            lab.runners["gpu2"].before = lambda script: None

    lab.runners["gpu2"].before = vanish

    assert await synced(lab, await plan(lab, declared("llama", "gpu2"))) == {"gpu2": None}
    assert whole(lab.stores["gpu2"])


async def test_blobs_that_vanish_again_and_again_end_the_copy(lab: Lab) -> None:
    """It does not go on for ever."""
    lab.stores["gpu1"].model("llama", CONFIG, WEIGHTS, TEMPLATE)
    target = lab.stores["gpu2"].root / blob_path(digest(TEMPLATE))
    lab.runners["gpu2"].before = lambda script: target.unlink(missing_ok=True) if "publish" in script else None

    outcome = await synced(lab, await plan(lab, declared("llama", "gpu2")))

    assert "its blobs go away as fast as they are copied" in str(outcome["gpu2"])


async def test_a_store_that_another_sync_holds_is_left_alone(lab: Lab) -> None:
    """The other hosts are done; the error says who is at work."""
    lab.stores["gpu1"].model("llama", CONFIG, WEIGHTS, TEMPLATE)
    lab.stores["gpu2"].write(".olladist/lock/who", b"bob@desk pid 1 since 2025-01-01T00:00:00Z (00)\n")

    outcome = await synced(lab, await plan(lab, declared("llama")))

    assert outcome["gpu3"] is None
    assert isinstance(outcome["gpu2"], StoreError)
    assert "bob@desk" in str(outcome["gpu2"])
    assert lab.stores["gpu2"].files() == {}


async def test_several_failures_of_a_host_are_told_together(lab: Lab) -> None:
    """None hides another."""
    outcome = await synced(lab, plan_pull([parse_name("one"), parse_name("two")], ["gpu1"]))

    assert "pulling one:latest" in str(outcome["gpu1"])
    assert "pulling two:latest" in str(outcome["gpu1"])


async def test_a_sync_that_is_cancelled_leaves_what_the_next_one_repairs(lab: Lab) -> None:
    """No lock, no half model; the next sync finishes."""
    lab.stores["gpu1"].model("llama", CONFIG, WEIGHTS, TEMPLATE)
    model, begun = declared("llama"), asyncio.Event()
    task = asyncio.create_task(synced(lab, await plan(lab, model), on_progress=lambda *seen: begun.set()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not list(lab.folder.glob("*/models/.olladist/lock"))
    assert set((await synced(lab, await plan(lab, model))).values()) <= {None}
    assert (await plan(lab, model)).empty


async def test_steps_are_told_as_they_begin(lab: Lab) -> None:
    """Each once, and no more hosts move bytes at a time than allowed."""
    lab.stores["gpu1"].model("llama", CONFIG, WEIGHTS, TEMPLATE)
    planned, begun = await plan(lab, declared("llama")), list[str]()

    await synced(lab, planned, on_step=lambda step: begun.append(step.describe()), at_once=1)

    assert sorted(begun) == sorted(step.describe() for step in planned.steps)


# Real stores, real transfers, any declaration, any place where the connections break.

POOL = [b"GGUF" + bytes([n]) * size for n, size in enumerate((0, 3, 4000, 70_000, 100_000))]


@st.composite
def situations(draw: st.DrawFn) -> tuple[dict[str, dict[str, list[int]]], list[DeclaredModel], dict[str, int | None]]:
    """What hosts hold (of POOL), what is declared, and after how many bytes each connection breaks in the first sync."""
    blobs = st.lists(st.integers(0, len(POOL) - 1), min_size=2, max_size=4)
    held = {
        host: draw(st.dictionaries(st.sampled_from(["a", "ns/b", "C", "other"]), blobs, max_size=2))
        for host in ("gpu1", "gpu2", "gpu3")
    }
    sources = {"a": None, "ns/b": "b.gguf", "c": "Modelfile"}
    models = [
        declared(name, replicas=draw(st.none() | st.integers(1, 3)), source=source) for name, source in sources.items()
    ]
    return held, models, {host: draw(st.none() | st.integers(0, 150_000)) for host in held}


@pytest.mark.timeout(240)
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(situation=situations())
async def test_whatever_was_there_syncs_to_what_is_declared(
    situation: tuple[dict[str, dict[str, list[int]]], list[DeclaredModel], dict[str, int | None]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """After interruptions anywhere, a further sync makes it so; blobs are verified, nothing else is touched."""
    held, models, cuts = situation
    lab = Lab(tmp_path_factory.mktemp("any"), "gpu1", "gpu2", "gpu3", registry={"a:latest": (b"config", *POOL[2:4])})
    (lab.folder / "b.gguf").write_bytes(POOL[4])
    (lab.folder / "Modelfile").write_text("FROM b.gguf\nSYSTEM x\n")
    for host, stored in held.items():
        for name, numbers in stored.items():
            lab.stores[host].model(name, *(POOL[number] for number in numbers))
    before = {host: store.files() for host, store in lab.stores.items()}
    first = await plan(lab, *models)
    for host, runner in lab.runners.items():
        runner.cut, runner.sent = cuts[host], 0
    await synced(lab, first)
    for runner in lab.runners.values():
        runner.cut = None

    second = await plan(lab, *models)
    assert set((await synced(lab, second)).values()) <= {None}

    assert (await plan(lab, *models)).steps == ()
    declared_keys = {model.name.key for model in models}
    for host, store in lab.stores.items():
        verify(store)
        after = store.files()
        seen: StoreContents = await scan(lab.runners[host], store.place)
        for key, there in seen.models.items():
            if key not in declared_keys:
                assert before[host][f"manifests/{there.name.path}"] == there.manifest.raw
        assert {path for path in before[host] if path.startswith("blobs/")} <= set(after)
    await lab.close()
