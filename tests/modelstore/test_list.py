from olladist.inventory.model import Inventory
from olladist.modelstore.contents import StoreContents
from olladist.modelstore.list import Drift, rows
from olladist.modelstore.source import Sources
from tests.modelstore.fleets import FromHost, declared, fleet, holding, model, recipe, sources

CONFIG, WEIGHTS = b"config", b"weights" * 100
LLAMA, OTHER = model(CONFIG, WEIGHTS), model(b"other", WEIGHTS)


def listed(
    inventory: Inventory, contents: dict[str, StoreContents], of: Sources | None = None
) -> list[tuple[str, str, tuple[Drift, ...]]]:
    return [(str(row.model), row.host, row.drift) for row in rows(inventory, contents, of)]


def test_a_fleet_as_declared_has_no_drift() -> None:
    """Each row tells the model's digest and size."""
    contents = {"gpu1": holding({"llama": LLAMA}), "gpu2": holding({"llama": LLAMA})}
    found = rows(fleet(2, declared("llama")), contents)

    assert [(row.host, row.digest, row.size, row.drift) for row in found] == [
        ("gpu1", LLAMA.digest, 706, ()),
        ("gpu2", LLAMA.digest, 706, ()),
    ]


def test_what_is_missing_or_undeclared_is_told_on_its_host() -> None:
    """In the order of names, then of hosts."""
    inventory = fleet(2, declared("llama", "gpu1"), declared("beta", replicas=1))
    contents = {"gpu2": holding({"llama": LLAMA, "alpha": OTHER}), "gpu1": holding()}

    assert listed(inventory, contents) == [
        ("alpha:latest", "gpu2", (Drift.UNDECLARED,)),
        ("beta:latest", "gpu2", (Drift.MISSING,)),
        ("llama:latest", "gpu1", (Drift.MISSING,)),
        ("llama:latest", "gpu2", (Drift.UNDECLARED,)),
    ]


def test_a_different_digest_is_told_on_the_host_that_is_alone_with_it() -> None:
    """Also of models that nobody declared; a spelling of another case is the same model."""
    contents = {
        "gpu1": holding({"llama": OTHER, "x": OTHER}),
        "gpu2": holding({"Llama": LLAMA, "x": LLAMA}),
        "gpu3": holding({"llama": LLAMA, "x": LLAMA}),
    }

    assert listed(fleet(3, declared("llama")), contents) == [
        ("llama:latest", "gpu1", (Drift.DIFFERS,)),
        ("Llama:latest", "gpu2", ()),
        ("llama:latest", "gpu3", ()),
        ("x:latest", "gpu1", (Drift.UNDECLARED, Drift.DIFFERS)),
        ("x:latest", "gpu2", (Drift.UNDECLARED,)),
        ("x:latest", "gpu3", (Drift.UNDECLARED,)),
    ]


def test_a_model_without_all_its_blobs_is_incomplete() -> None:
    """Ollama lists it all the same."""
    assert listed(fleet(1, declared("llama")), {"gpu1": holding({"llama": LLAMA}, without=[WEIGHTS])}) == [
        ("llama:latest", "gpu1", (Drift.INCOMPLETE,))
    ]


def test_a_source_decides_which_version_is_right() -> None:
    """The source host's, or what the recipe became; one of an older recipe differs."""
    contents = {
        "gpu1": holding({"a": LLAMA, "b": LLAMA, "c": LLAMA}),
        "gpu2": holding({"a": LLAMA, "b": LLAMA, "c": LLAMA}),
        "gpu3": holding({"a": OTHER, "b": OTHER}, recipes={"rb": OTHER}),
    }
    inventory = fleet(3, declared("a"), declared("b"), declared("c", "gpu1", "gpu2"))
    of = sources(a=FromHost("gpu3"), b=recipe("rb", WEIGHTS), c=recipe("new", WEIGHTS))

    assert [row[:2] for row in listed(inventory, contents, of) if Drift.DIFFERS in row[2]] == [
        ("a:latest", "gpu1"),
        ("a:latest", "gpu2"),
        ("b:latest", "gpu1"),
        ("b:latest", "gpu2"),
        ("c:latest", "gpu1"),
        ("c:latest", "gpu2"),
    ]


def test_hosts_that_were_not_reached_have_no_rows() -> None:
    """Nothing is known of them."""
    assert listed(fleet(2, declared("llama")), {"gpu2": holding()}) == [("llama:latest", "gpu2", (Drift.MISSING,))]
