"""What a rebalance plans: pure, over stores as values."""

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.control.moves.plan import MovePlan, Remove, plan_copy, plan_rebalance, reason
from olladist.inventory.model import DeclaredModel, Gateway, Inventory
from olladist.modelstore.contents import StoreContents, Stored
from olladist.modelstore.place import RESERVE
from olladist.modelstore.source import Sources
from olladist.modelstore.steps import Copy, Pull
from olladist.ollama.manifest import Manifest
from tests.modelstore.fleets import declared, fleet, holding, model

ONE = model(b"config one", b"weights" * 100)
TWO = model(b"config two", b"weights" * 100, b"template")
THREE = model(b"config three", b"other weights" * 50)
PULLED = model(b"as the registry has it")
EMPTY = holding()


def inventory(hosts: int, *models: DeclaredModel, replicas: int = 2) -> Inventory:
    return replace(fleet(hosts, *models), gateway=Gateway(replicas=replicas))


def registry(found: Inventory) -> Sources:
    return Sources({each.name.key: None for each in found.models})


def described(plan: MovePlan) -> list[str]:
    return [f"{deed.describe()} ({reason(plan, deed)})" for deed in plan.deeds]


def test_an_undeclared_model_gets_its_copies() -> None:
    """As many as `[gateway] replicas` says, on the hosts with the fewest models."""
    found = inventory(3)
    contents = {"gpu1": holding({"a": ONE}), "gpu2": holding({"b": THREE}), "gpu3": holding({"b": THREE})}

    assert described(plan_rebalance(found, contents, Sources())) == [
        "copy a:latest to gpu2: 2 of 2 blobs, 710 B from gpu1 (not declared: [gateway] replicas = 2)"
    ]


def test_a_drained_host_gets_nothing_new() -> None:
    """It keeps what it has, and that is repaired as on any other; what is declared for it comes all the same."""
    found = inventory(3, declared("c", "gpu2"), replicas=3)
    contents = {"gpu1": holding({"a": ONE, "c": THREE}), "gpu2": holding({"b": TWO}), "gpu3": EMPTY}
    plan = plan_rebalance(found, contents, registry(found), drained=["gpu2"])

    assert sorted((str(deed.model), deed.host) for deed in plan.deeds) == [
        ("a:latest", "gpu3"),
        ("b:latest", "gpu1"),
        ("b:latest", "gpu3"),
        ("c:latest", "gpu2"),
    ]


def test_a_declared_model_goes_where_it_is_declared() -> None:
    """Also from a host that is not to have it, which keeps its copy."""
    found = inventory(3, declared("a", "gpu2", "gpu3"))
    contents = {"gpu1": holding({"a": ONE}), "gpu2": EMPTY, "gpu3": EMPTY}

    assert described(plan_rebalance(found, contents, registry(found))) == [
        "copy a:latest to gpu2: 2 of 2 blobs, 710 B from gpu1 (declared on gpu2 and gpu3)",
        "copy a:latest to gpu3: 2 of 2 blobs, 710 B from gpu1 (declared on gpu2 and gpu3)",
    ]


def test_drift_is_repaired_on_every_host() -> None:
    """Most copies decide; where there is no majority, the newest."""
    contents = {name: holding({"a": m}) for name, m in zip(("gpu1", "gpu2", "gpu3"), (ONE, TWO, TWO), strict=True)}
    most = plan_rebalance(inventory(3), contents, Sources())
    two = {"gpu1": holding({"a": ONE}), "gpu2": holding({"a": TWO})}
    key = next(iter(two["gpu1"].models))
    newest = plan_rebalance(inventory(2), two, Sources(), times={("gpu1", key): 5.0, ("gpu2", key): 9.0})

    assert described(most) == [
        "replace a:latest on gpu1: 2 of 3 blobs, 18 B from gpu2 (the name means something else on most hosts)"
    ]
    assert [(deed.host, deed.describe()[:7]) for deed in newest.deeds] == [("gpu1", "replace")]


def test_a_damaged_copy_is_repaired() -> None:
    """And one that is whole nowhere is told, not pulled over."""
    contents = {"gpu1": holding({"a": ONE}, without=[b"weights" * 100]), "gpu2": holding({"a": ONE})}
    repaired = plan_rebalance(inventory(2), contents, Sources())
    lost = plan_rebalance(inventory(1), {"gpu1": contents["gpu1"]}, Sources(), prune=True)

    assert described(repaired) == [
        "repair a:latest on gpu1: 1 of 2 blobs, 700 B from gpu2 (blobs of it are missing or damaged there)"
    ]
    assert (lost.deeds, [problem.message for problem in lost.problems]) == (
        (),
        ["a:latest: some of its blobs are on no host"],
    )


def test_nothing_is_deleted_unless_asked_for() -> None:
    """Then what is beyond the wanted copies goes, after those have come."""
    found = inventory(3, declared("a", "gpu3"), replicas=1)
    contents = {"gpu1": holding({"a": ONE, "b": THREE}), "gpu2": holding({"b": THREE}), "gpu3": EMPTY}
    plan = plan_rebalance(found, contents, registry(found), prune=True)

    assert [deed for deed in plan_rebalance(found, contents, registry(found)).deeds if isinstance(deed, Remove)] == []
    assert described(plan) == [
        "copy a:latest to gpu3: 2 of 2 blobs, 710 B from gpu1 (declared on gpu3)",
        "delete a:latest on gpu1: 710 B (not among the hosts that shall have it (declared on gpu3))",
        "delete b:latest on gpu2: 662 B (not among the hosts that shall have it (not declared: [gateway] replicas = 1))",
    ]


def test_the_last_copy_stays_where_the_wanted_one_cannot_come() -> None:
    """The declared host is full, or was not reached."""
    found = inventory(2, declared("a", "gpu2"))
    full = {"gpu1": holding({"a": ONE}), "gpu2": holding(free=RESERVE)}
    away = {"gpu1": holding({"a": ONE})}

    for contents in (full, away):
        plan = plan_rebalance(found, contents, registry(found), prune=True)
        assert not [deed for deed in plan.deeds if deed.host == "gpu1"]


def test_one_model_to_one_host() -> None:
    """What is there under the name is replaced, by what the source has."""
    contents = {"gpu1": holding({"a": ONE}), "gpu2": holding({"A": TWO})}
    key = next(iter(contents["gpu1"].models))
    [step] = plan_copy(inventory(2), contents, key, "gpu1", ["gpu2"]).steps

    assert isinstance(step, Copy)
    assert (str(step.model), step.manifest, step.replaces) == ("A:latest", ONE, TWO.digest)


NAMES = ("a", "b", "c")
MANIFESTS = (ONE, TWO, THREE)
HOSTS = ("gpu1", "gpu2", "gpu3", "gpu4")

stores = st.builds(
    lambda models, free: holding(models, free=RESERVE + free),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(MANIFESTS)),
    st.integers(0, 3000),
)
fleets = st.dictionaries(st.sampled_from(HOSTS), stores, min_size=1)
declarations = st.dictionaries(
    st.sampled_from(NAMES),
    st.one_of(
        st.integers(1, 4).map(lambda count: {"replicas": count}),
        st.sets(st.sampled_from(HOSTS), min_size=1).map(lambda on: {"on": tuple(sorted(on))}),
    ),
)


def declare(said: Mapping[str, dict[str, object]], replicas: int) -> Inventory:
    models = [
        declared(name, *how["on"]) if "on" in how else declared(name, replicas=how["replicas"])  # type: ignore[misc, arg-type]  # as drawn
        for name, how in said.items()
    ]
    return inventory(len(HOSTS), *models, replicas=replicas)


def applied(plan: MovePlan, contents: Mapping[str, StoreContents]) -> dict[str, StoreContents]:
    """The stores after the deeds; fails where a disk overflows, or a blob comes from nowhere."""
    after = dict(contents)
    for deed in plan.deeds:
        seen = after[deed.host]
        if isinstance(deed, Remove):
            models = {key: stored for key, stored in seen.models.items() if key != deed.model.key}
            after[deed.host] = replace(seen, models=models)
            continue
        assert isinstance(deed, Copy | Pull)
        manifest: Manifest = deed.manifest if isinstance(deed, Copy) else PULLED
        for transfer in deed.transfers:
            assert any(after[holder].has(transfer.blob) for holder in transfer.holders)
        free = seen.free_bytes - sum(transfer.left for transfer in deed.transfers)
        assert free >= RESERVE or not deed.transfers
        blobs = {**seen.blobs, **{blob.digest: blob.size for blob in manifest.blobs}}
        models = {**seen.models, deed.model.key: Stored(deed.model, manifest)}
        after[deed.host] = replace(seen, models=models, blobs=blobs, free_bytes=free)
    return after


def copies(contents: Mapping[str, StoreContents]) -> dict[str, int]:
    keys = [key for seen in contents.values() for key in seen.models]
    return {key: keys.count(key) for key in keys}


@given(fleets, declarations, st.integers(1, 4))
def test_after_the_plan_there_is_nothing_to_do(
    contents: dict[str, StoreContents], said: dict[str, dict[str, object]], replicas: int
) -> None:
    """The same question again finds no step; no copy has gone, no disk is fuller than it may be.

    What a registry brings nobody knows before: blobs of it may make room for a copy for which there was none.
    """
    found = declare(said, replicas)
    plan = plan_rebalance(found, contents, registry(found))
    after = applied(plan, contents)
    again = plan_rebalance(found, after, registry(found))

    if any(isinstance(deed, Pull) for deed in plan.deeds):
        assert not any(isinstance(deed, Pull) for deed in again.deeds)
        again = plan_rebalance(found, applied(again, after), registry(found))
    assert again.deeds == ()
    assert all(copies(after)[key] >= count for key, count in copies(contents).items())
    assert plan_rebalance(found, contents, registry(found)).deeds == plan.deeds


@given(fleets, declarations, st.integers(1, 4))
def test_pruning_leaves_what_is_wanted(
    contents: dict[str, StoreContents], said: dict[str, dict[str, object]], replicas: int
) -> None:
    """Of each model as many copies stay as are wanted, or as there were; and none that is wanted where it was is taken away."""
    found = declare(said, replicas)
    after = applied(plan_rebalance(found, contents, registry(found), prune=True), contents)
    wanted = {each.name.key: each.replicas or len(each.on) for each in found.models}

    for key, count in copies(contents).items():
        assert copies(after)[key] >= min(count, wanted.get(key, replicas))
    for each in found.models:
        if each.replicas is None:
            for host in each.on:
                if host in contents and each.name.key in contents[host].models:
                    assert each.name.key in after[host].models
