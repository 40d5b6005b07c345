from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.errors import HostError, UsageError
from olladist.modelstore.contents import StoreContents, Stored
from olladist.modelstore.place import RESERVE
from olladist.modelstore.plan import SyncPlan, plan_pull, plan_sync
from olladist.modelstore.source import Recipe, Source, Sources
from olladist.modelstore.steps import Copy, Create, Follow, Pull, Transfer, bytes_to_move
from olladist.ollama.manifest import Layer, Manifest, parse_manifest
from olladist.ollama.names import parse_name
from tests.modelstore.fleets import GB, FromHost, declared, digest, fleet, holding, model, recipe, sources
from tests.modelstore.stores import manifest_of

CONFIG, WEIGHTS, TEMPLATE = b"config", b"weights" * 100, b"template"
LLAMA = model(CONFIG, WEIGHTS, TEMPLATE)
OTHER = model(b"other config", WEIGHTS, TEMPLATE)
EMPTY = holding()


def described(plan: SyncPlan) -> list[str]:
    return [step.describe() for step in plan.steps]


def test_what_is_as_declared_needs_nothing() -> None:
    """Undeclared models stay, undeclared hosts stay as they are."""
    inventory = fleet(2, declared("llama", "gpu1"))
    contents = {"gpu1": holding({"llama": LLAMA, "mine": OTHER}), "gpu2": holding({"yours": OTHER})}

    assert plan_sync(inventory, contents, sources(llama=None)) == SyncPlan()


def test_a_model_that_no_host_has_is_pulled_by_each() -> None:
    """From the registry that its name says."""
    plan = plan_sync(fleet(2, declared("llama")), {"gpu1": EMPTY, "gpu2": EMPTY}, sources(llama=None))

    assert described(plan) == [
        "pull llama:latest on gpu1 from registry.ollama.ai",
        "pull llama:latest on gpu2 from registry.ollama.ai",
    ]


def test_a_model_that_some_host_has_is_copied_so_that_digests_agree() -> None:
    """Also from a host where it is not declared; only missing blobs move, parts are resumed."""
    contents = {
        "gpu1": holding(blobs=[CONFIG], parts={WEIGHTS: 300}),
        "gpu2": holding({"llama": LLAMA}),
    }
    plan = plan_sync(fleet(2, declared("llama", "gpu1")), contents, sources(llama=None))

    [step] = plan.steps
    assert isinstance(step, Copy)
    assert {t.blob.digest: (t.staged, t.holders) for t in step.transfers} == {
        digest(WEIGHTS): (300, ("gpu2",)),
        digest(TEMPLATE): (0, ("gpu2",)),
    }
    assert step.describe() == "copy llama:latest to gpu1: 2 of 3 blobs, 408 B from gpu2 (300 B more are there already)"
    assert plan.size == 408


def test_layers_that_two_models_share_cross_once() -> None:
    """The second step takes what the first has brought."""
    contents = {"gpu1": holding({"llama": LLAMA, "other": OTHER}), "gpu2": EMPTY}
    plan = plan_sync(fleet(2, declared("llama"), declared("other")), contents, sources(llama=None, other=None))

    assert described(plan) == [
        "copy llama:latest to gpu2: 3 of 3 blobs, 714 B from gpu1",
        "copy other:latest to gpu2: 1 of 3 blobs, 12 B from gpu1",
    ]


def test_hosts_that_differ_are_brought_to_what_most_declared_hosts_hold() -> None:
    """A different digest is replaced, a damaged model repaired under its own spelling."""
    contents = {
        "gpu1": holding({"llama": OTHER}),
        "gpu2": holding({"llama": LLAMA}),
        "gpu3": holding({"Llama": LLAMA}, without=[TEMPLATE]),
    }
    plan = plan_sync(fleet(3, declared("llama")), contents, sources(llama=None))

    assert described(plan) == [
        "replace llama:latest on gpu1: 1 of 3 blobs, 6 B from gpu2",
        "repair Llama:latest on gpu3: 1 of 3 blobs, 8 B from gpu1",
    ]


def test_a_manifest_without_its_blobs_is_no_source() -> None:
    """Where nobody has the blobs any more, the registry has them."""
    contents = {"gpu1": holding({"llama": LLAMA}, without=[WEIGHTS]), "gpu2": EMPTY}
    plan = plan_sync(fleet(2, declared("llama")), contents, sources(llama=None))

    assert [type(step) for step in plan.steps] == [Pull, Pull]


def test_a_file_is_made_into_a_model_once_and_copied() -> None:
    """The host that has most of it makes the model; the file itself is sent to all, from here."""
    contents = {"gpu1": EMPTY, "gpu2": holding(parts={WEIGHTS: 500}), "gpu3": holding(blobs=[WEIGHTS])}
    made = recipe("r", WEIGHTS)
    plan = plan_sync(fleet(3, declared("support")), contents, sources(support=made))

    assert described(plan) == [
        "create support:latest on gpu3 from support.gguf: its files are there",
        "copy support:latest to gpu1: 700 B from 0.gguf, then what gpu3 has made of it",
        "copy support:latest to gpu2: 200 B from 0.gguf (500 B more are there already), then what gpu3 has made of it",
    ]
    assert plan.files == {digest(WEIGHTS): Path("/models/0.gguf")}


def test_a_name_keeps_the_spelling_it_has_on_a_host() -> None:
    """Whoever makes, copies or pulls it: another spelling beside it would be a second file for the same model."""
    contents = {"gpu1": holding({"Support": OTHER}), "gpu2": holding({"SUPPORT": OTHER}, without=[WEIGHTS])}
    inventory = fleet(2, declared("support"))

    assert described(plan_sync(inventory, contents, sources(support=recipe("r", WEIGHTS)))) == [
        "create Support:latest on gpu1 from support.gguf: its files are there",
        "copy SUPPORT:latest to gpu2: 700 B from 0.gguf, then what gpu1 has made of it",
    ]


def test_what_a_recipe_became_is_known_from_any_host_that_remembers() -> None:
    """The second sync is empty; a new host gets the same bytes, the big one straight from the file."""
    made = recipe("r", WEIGHTS)
    contents = {"gpu1": holding({"support": LLAMA}), "gpu2": holding({"support": LLAMA}, recipes={"r": LLAMA})}
    inventory = fleet(3, declared("support"))

    assert plan_sync(fleet(2, declared("support")), contents, sources(support=made)).empty
    plan = plan_sync(inventory, contents | {"gpu3": EMPTY}, sources(support=made))
    [step] = plan.steps
    assert isinstance(step, Copy)
    assert step.recipe == "r"
    assert {t.blob.digest: t.file for t in step.transfers}[digest(WEIGHTS)] == Path("/models/0.gguf")
    assert step.describe() == "copy support:latest to gpu3: 3 of 3 blobs, 714 B from gpu1 and 0.gguf"


def test_a_changed_recipe_is_made_anew() -> None:
    """What the old one became does not count."""
    contents = {"gpu1": holding({"support": LLAMA}, recipes={"old": LLAMA})}
    plan = plan_sync(fleet(1, declared("support")), contents, sources(support=recipe("new", WEIGHTS)))

    assert [type(step) for step in plan.steps] == [Create]


def test_a_recipe_whose_model_is_gone_everywhere_is_made_anew() -> None:
    """A note of a manifest that nobody has is worth nothing."""
    contents = {"gpu1": holding(blobs=[WEIGHTS], recipes={"r": LLAMA})}
    plan = plan_sync(fleet(1, declared("support")), contents, sources(support=recipe("r", WEIGHTS)))

    assert [type(step) for step in plan.steps] == [Create]


def test_a_model_is_made_after_its_base_and_where_that_is() -> None:
    """Whatever the order of the inventory."""
    inventory = fleet(2, declared("tuned"), declared("base", "gpu2"))
    of = sources(tuned=recipe("t", base="base"), base=recipe("b", WEIGHTS))
    plan = plan_sync(inventory, {"gpu1": EMPTY, "gpu2": EMPTY}, of)

    assert described(plan) == [
        "create base:latest on gpu2 from support.gguf: 700 B from 0.gguf",
        "create tuned:latest on gpu2 from support.gguf, based on base:latest",
        "copy tuned:latest to gpu1: what gpu2 has made of it",
    ]


def test_models_that_are_based_on_each_other_are_a_problem() -> None:
    """And do not stop the others."""
    inventory = fleet(1, declared("a"), declared("b"), declared("c"), declared("llama"))
    of = sources(a=recipe("a", base="b"), b=recipe("b", base="a"), c=recipe("c", base="a"), llama=None)
    plan = plan_sync(inventory, {"gpu1": EMPTY}, of)

    assert [problem.message for problem in plan.problems] == [
        "a:latest and b:latest: FROM leads round in a circle",
        "c:latest: FROM leads round in a circle",
    ]
    assert [type(step) for step in plan.steps] == [Pull]


def test_a_model_from_a_host_is_what_that_host_has() -> None:
    """Even where most others have something else."""
    contents = {"gpu1": holding({"llama": OTHER}), "gpu2": holding({"llama": OTHER}), "gpu3": holding({"llama": LLAMA})}
    plan = plan_sync(fleet(3, declared("llama", "gpu1")), contents, sources(llama=FromHost("gpu3")))

    assert described(plan) == ["replace llama:latest on gpu1: 1 of 3 blobs, 6 B from gpu3"]


@pytest.mark.parametrize(
    ("contents", "cause"),
    [
        ({"gpu1": EMPTY}, "it is the model's source and was not reached"),
        ({"gpu1": EMPTY, "gpu2": EMPTY}, "it is the model's source and does not have it"),
        ({"gpu1": EMPTY, "gpu2": holding({"llama": LLAMA}, without=[WEIGHTS])}, "1 of its blobs are on no host"),
    ],
)
def test_a_source_host_without_the_model_is_a_problem(contents: dict[str, StoreContents], cause: str) -> None:
    """The error names that host."""
    plan = plan_sync(fleet(2, declared("llama", "gpu1")), contents, sources(llama=FromHost("gpu2")))

    [problem] = plan.problems
    assert isinstance(problem, HostError)
    assert (problem.host, problem.cause, plan.empty) == ("gpu2", cause, True)


def test_a_source_that_cannot_be_read_is_a_problem_of_its_model() -> None:
    """The rest of the plan stands."""
    bad = UsageError("support:latest: gone.gguf cannot be read")
    of = Sources({parse_name("llama").key: None}, {parse_name("support").key: bad})
    plan = plan_sync(fleet(1, declared("support"), declared("llama")), {"gpu1": EMPTY}, of)

    assert plan.problems == (bad,)
    assert [type(step) for step in plan.steps] == [Pull]


def test_a_host_without_room_is_left_out_before_a_byte_moves() -> None:
    """The problem names need and free space; parts that are there need no room; another host makes the model."""
    made = recipe("r", WEIGHTS)
    contents = {
        "gpu1": holding(free=RESERVE + len(WEIGHTS) - 1),
        "gpu2": holding(free=RESERVE + 1, parts={WEIGHTS: len(WEIGHTS) - 1}),
        "gpu3": EMPTY,
    }
    plan = plan_sync(fleet(3, declared("support")), contents, sources(support=made))

    [problem] = plan.problems
    assert isinstance(problem, HostError)
    assert (problem.host, problem.cause) == ("gpu1", "not enough space: 700 B needed and 34 MB to spare, 34 MB free")
    assert [(type(step), step.host) for step in plan.steps] == [(Create, "gpu2"), (Follow, "gpu3")]


def test_space_is_counted_over_all_steps_of_a_host() -> None:
    """What the first model takes is not there for the second."""
    contents = {
        "gpu1": holding({"a": model(b"1", b"x" * 600), "b": model(b"2", b"y" * 600)}),
        "gpu2": holding(free=RESERVE + 1000),
    }
    plan = plan_sync(fleet(2, declared("a"), declared("b")), contents, sources(a=None, b=None))

    assert described(plan) == ["copy a:latest to gpu2: 2 of 2 blobs, 601 B from gpu1"]
    assert "601 B needed and 34 MB to spare, 34 MB free" in plan.problems[0].message


def test_a_store_that_cannot_be_moved_into_is_left_out() -> None:
    """With the reason that the scan has found."""
    contents = {"gpu1": holding({"llama": LLAMA}), "gpu2": holding(closed="blobs/ lies elsewhere")}
    plan = plan_sync(fleet(2, declared("llama")), contents, sources(llama=None))

    assert plan.empty
    assert "gpu2: blobs/ lies elsewhere" in plan.problems[0].message


def test_a_limit_restricts_steps_but_not_what_is_known() -> None:
    """Placement and sources see the whole fleet."""
    contents = {"gpu1": EMPTY, "gpu2": EMPTY, "gpu3": holding({"llama": LLAMA})}
    inventory = fleet(3, declared("llama", replicas=2))
    plan = plan_sync(inventory, contents, sources(llama=None), limit={"gpu2", "gpu3"})

    assert plan.empty  # the second replica belongs on gpu1
    assert [step.host for step in plan_sync(inventory, contents, sources(llama=None), limit={"gpu1"}).steps] == ["gpu1"]


def test_too_few_hosts_for_the_replicas_are_a_problem() -> None:
    """As many as there are get it all the same."""
    plan = plan_sync(fleet(2, declared("llama", replicas=3)), {"gpu1": EMPTY, "gpu2": EMPTY}, sources(llama=None))

    assert "3 replicas are declared, 2 hosts can hold it" in plan.problems[0].message
    assert len(plan.steps) == 2


def test_a_pull_can_be_asked_for() -> None:
    """Whatever is there."""
    assert described(plan_pull([parse_name("hf.co/u/m:Q4")], ["gpu1"])) == ["pull hf.co/u/m:Q4 on gpu1 from hf.co"]


# Any fleet, any declaration: carrying the plan out as values leads to an empty plan.

POOL = [bytes([65 + n]) * (10 * n + 1) for n in range(6)]
NAMES = ["a", "b", "B", "ns/c"]
HOSTS = ["gpu1", "gpu2", "gpu3"]
manifests = st.lists(st.sampled_from(POOL), min_size=2, max_size=4).map(
    lambda blobs: parse_manifest(manifest_of(*blobs))
)


@st.composite
def stores(draw: st.DrawFn) -> StoreContents:
    held = draw(st.dictionaries(st.sampled_from(NAMES), manifests, max_size=3))
    if "b" in held:
        held.pop("B", None)
    seen = holding(
        held,
        blobs=draw(st.lists(st.sampled_from(POOL), max_size=3)),
        without=draw(st.lists(st.sampled_from(POOL), max_size=2)),
        parts={blob: len(blob) // 2 for blob in draw(st.lists(st.sampled_from(POOL), max_size=2))},
        free=draw(st.sampled_from([RESERVE, RESERVE + 60, GB])),
    )
    recipes = draw(st.dictionaries(st.sampled_from(["r1", "r2"]), manifests, max_size=2))
    return replace(seen, recipes={key: manifest.digest for key, manifest in recipes.items()})


@st.composite
def sourced(draw: st.DrawFn) -> Source:
    kind = draw(st.sampled_from(["registry", "host", "file", "base"]))
    if kind == "host":
        return FromHost(draw(st.sampled_from(HOSTS)))
    if kind == "file":
        file = draw(st.sampled_from(POOL))
        return recipe(f"r{POOL.index(file)}", file)
    return recipe("rb", base=draw(st.sampled_from(["a", "ns/c", "elsewhere"]))) if kind == "base" else None


@st.composite
def situations(draw: st.DrawFn) -> tuple[dict[str, StoreContents], dict[str, Source], dict[str, int | None]]:
    reached = draw(st.lists(st.sampled_from(HOSTS), min_size=1, max_size=3, unique=True))
    wanted = draw(st.dictionaries(st.sampled_from(["a", "b", "ns/c"]), sourced(), min_size=1, max_size=3))
    replicas = {name: draw(st.none() | st.integers(1, 3)) for name in wanted}
    return {host: draw(stores()) for host in reached}, wanted, replicas


def carried_out(plan: SyncPlan, contents: dict[str, StoreContents]) -> dict[str, StoreContents]:
    """The stores after the plan, if all goes well: Ollama makes of any recipe its files under a config of its own."""
    made: dict[str, Manifest] = {}
    after = dict(contents)
    for step in plan.steps:
        if isinstance(step, Copy):
            manifest = step.manifest
        elif isinstance(step, Pull):
            manifest = parse_manifest(manifest_of(b"pulled", step.model.key.encode()))
        elif isinstance(step, Create):
            files = [Layer("", file.digest, file.size) for file in step.recipe.files]
            base = parse_manifest(manifest_of(b"made", step.recipe.digest.encode()))
            manifest = replace(base, layers=(*base.layers, *files))
            made[step.model.key] = manifest
        else:
            manifest = made[step.model.key]
        seen = after[step.host]
        brought = {blob.digest: blob.size for blob in manifest.blobs}
        if isinstance(step, Copy):
            assert {t.blob.digest for t in step.transfers} >= set(brought) - set(seen.blobs)
        recipes = {step.recipe.digest: manifest.digest} if isinstance(step, Create | Follow) else {}
        if isinstance(step, Copy) and step.recipe:
            recipes = {step.recipe: manifest.digest}
        name = seen.models[step.model.key].name if step.model.key in seen.models else step.model
        after[step.host] = replace(
            seen,
            models={**seen.models, step.model.key: Stored(name, manifest)},
            blobs={**seen.blobs, **brought},
            recipes={**seen.recipes, **recipes},
            free_bytes=seen.free_bytes - bytes_to_move(step),
        )
    return after


@given(situations())
def test_a_plan_that_is_carried_out_leaves_nothing_to_do(
    situation: tuple[dict[str, StoreContents], dict[str, Source], dict[str, int | None]],
) -> None:
    """Nothing crosses twice to one host, every blob has a source, space is never exceeded, and the next plan is empty."""
    contents, wanted, replicas = situation
    inventory = fleet(HOSTS, *(declared(name, replicas=replicas[name]) for name in wanted))
    of = sources(**wanted)
    plan = plan_sync(inventory, contents, of)

    for host, seen in contents.items():
        moved: list[Transfer] = [t for step in plan.steps if step.host == host for t in step.transfers]
        assert len({t.blob.digest for t in moved}) == len(moved)
        assert sum(t.left for t in moved) <= max(seen.free_bytes - RESERVE, 0)
        for transfer in moved:
            assert transfer.file or transfer.holders
            assert not seen.has(transfer.blob)
            assert all(contents[holder].has(transfer.blob) for holder in transfer.holders)
    assert plan.steps == plan_sync(inventory, dict(reversed(contents.items())), of).steps
    again = plan_sync(inventory, carried_out(plan, contents), of)
    assert [step.describe() for step in again.steps if not again.problems] == []


def test_a_recipe_without_files_describes_itself() -> None:
    """It says what it is based on."""
    made = Recipe("r", "Modelfile", (), base=parse_name("llama3.2"))

    assert Create("gpu1", parse_name("m"), made, ()).describe() == (
        "create m:latest on gpu1 from Modelfile, based on llama3.2:latest"
    )
