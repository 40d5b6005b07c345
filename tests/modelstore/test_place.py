from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from olladist.modelstore.contents import StoreContents
from olladist.modelstore.place import RESERVE, Candidate, choose, place
from olladist.ollama.manifest import Manifest
from tests.modelstore.fleets import GB, declared, fleet, holding, model, recipe, sources

CONFIG, WEIGHTS = b"config", b"weights" * 100
LLAMA = model(CONFIG, WEIGHTS)


def placed(inventory_models: int, contents: dict[str, StoreContents], **how: int) -> tuple[str, ...]:
    """Where `llama` goes on gpu1 … gpuN."""
    inventory = fleet(inventory_models, declared("llama", replicas=how.get("replicas", 1)))
    return place(inventory, contents)["registry.ollama.ai/library/llama:latest"]


def test_a_model_on_hosts_is_on_all_of_them() -> None:
    """Also on those that could not be reached."""
    inventory = fleet(3, declared("llama", "gpu1", "gpu3"))

    assert place(inventory, {}) == {"registry.ollama.ai/library/llama:latest": ("gpu1", "gpu3")}


def test_a_replica_stays_where_it_is() -> None:
    """However much better another host looks."""
    contents = {"gpu1": holding(), "gpu2": holding({"llama": LLAMA}, free=0), "gpu3": holding(free=900 * GB)}

    assert placed(3, contents) == ("gpu2",)


def test_a_damaged_or_different_replica_is_repaired_where_it_is() -> None:
    """Blobs that are missing do not make the model move."""
    contents = {"gpu1": holding(blobs=[WEIGHTS]), "gpu2": holding({"llama": LLAMA}, without=[CONFIG, WEIGHTS])}

    assert placed(2, contents) == ("gpu2",)


def test_a_host_with_a_part_of_the_model_is_next() -> None:
    """An interrupted sync goes on where it was, although its host has less free now."""
    contents = {
        "gpu1": holding({"llama": LLAMA}),
        "gpu2": holding(free=50 * GB),
        "gpu3": holding(parts={WEIGHTS: 10}, free=1 * GB),
    }

    assert placed(3, contents, replicas=2) == ("gpu1", "gpu3")


def test_a_new_model_goes_where_there_is_room_then_fewest_models_then_most_disk() -> None:
    """In that order."""
    busy = {f"m{n}": model(b"%d" % n, b"x") for n in range(3)}
    contents = {
        "gpu1": holding(free=1 * GB),
        "gpu2": holding(busy, free=900 * GB),
        "gpu3": holding(free=20 * GB),
        "gpu4": holding(free=30 * GB),
    }
    inventory = fleet(4, *(declared(name, "gpu2") for name in busy), declared("llama", replicas=3))

    assert place(inventory, contents)["registry.ollama.ai/library/llama:latest"] == ("gpu2", "gpu3", "gpu4")


def test_models_that_are_placed_together_spread() -> None:
    """What is placed counts for the next."""
    models = [declared(f"m{n}", replicas=1) for n in range(4)]
    contents = {"gpu1": holding(free=100 * GB), "gpu2": holding(free=99 * GB)}

    assert [hosts for (hosts,) in place(fleet(2, *models), contents).values()] == ["gpu1", "gpu2", "gpu1", "gpu2"]


def test_unfinished_downloads_count_as_free() -> None:
    """They belong to the model that is about to be placed, or go away."""
    contents = {
        "gpu1": holding(free=50 * GB),
        "gpu2": replace(holding(free=40 * GB), partial_bytes=11 * GB),
    }

    assert placed(2, contents) == ("gpu2",)


def test_the_size_of_what_will_be_made_is_known() -> None:
    """A recipe's files tell it."""
    contents = {"gpu1": holding(free=RESERVE + len(WEIGHTS) - 1), "gpu2": holding(free=RESERVE + len(WEIGHTS))}
    inventory = fleet(2, declared("llama", replicas=1))

    assert place(inventory, contents, sources(llama=recipe("r", WEIGHTS))) == {
        "registry.ollama.ai/library/llama:latest": ("gpu2",)
    }


def test_only_hosts_that_were_reached_get_replicas() -> None:
    """Fewer of them than replicas are all there is."""
    assert placed(3, {"gpu2": holding()}, replicas=2) == ("gpu2",)


MANIFESTS = {f"m{n}": model(b"%d" % n, b"x" * n) for n in range(4)}


@st.composite
def fleets(draw: st.DrawFn) -> tuple[list[int], dict[str, StoreContents]]:
    """Replicas per model, and what hosts hold."""
    replicas = draw(st.lists(st.integers(1, 4), min_size=4, max_size=4))
    held = st.dictionaries(st.sampled_from(sorted(MANIFESTS)), st.just(0), max_size=4)
    contents: dict[str, StoreContents] = {}
    for number in range(draw(st.integers(1, 5))):
        mine: dict[str, Manifest] = {name: MANIFESTS[name] for name in draw(held)}
        contents[f"gpu{number + 1}"] = holding(mine, free=draw(st.integers(0, 100)) * GB)
    return replicas, contents


@given(fleets())
def test_placing_is_stable_and_moves_nothing(drawn: tuple[list[int], dict[str, StoreContents]]) -> None:
    """Holders are kept as far as replicas go, the count is right, and placing again after placing changes nothing."""
    replicas, contents = drawn
    models = [declared(name, replicas=count) for name, count in zip(sorted(MANIFESTS), replicas, strict=True)]
    inventory = fleet(5, *models)
    first = place(inventory, contents)
    for one in models:
        key, count = one.name.key, one.replicas or 0
        holders = {host for host, seen in contents.items() if key in seen.models}
        assert len(first[key]) == min(count, len(contents))
        assert holders >= set(first[key]) or holders <= set(first[key])
    after = {
        host: holding(
            {str(s.name): s.manifest for s in seen.models.values()}
            | {str(m.name): MANIFESTS[m.name.model] for m in models if host in first[m.name.key]},
            free=seen.free_bytes,
        )
        for host, seen in contents.items()
    }

    assert place(inventory, after) == first


@given(
    st.permutations([Candidate(f"gpu{n}", n > 3, n == 5, n % 2, n % 3 * GB, n % 4) for n in range(6)]),
    st.integers(0, 7),
)
def test_the_order_of_candidates_decides_only_between_equals(candidates: list[Candidate], replicas: int) -> None:
    """No two of these are equal, so any order gives the same hosts."""
    assert choose(candidates, replicas, 1) == choose(sorted(candidates, key=lambda c: c.host), replicas, 1)
