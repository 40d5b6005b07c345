import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.control.answers import Row
from olladist.gateway.control.catalog import find_drift, merge_loaded, merge_tags, openai_model
from olladist.ollama.names import parse_name

A, B, C = "a" * 64, "b" * 64, "c" * 64


def row(name: str, digest: str = A, time: float = 100.0, **fields: Any) -> Row:
    return Row(parse_name(name).key, digest, time, {"name": name, "modified_at": str(time), **fields})


def names(rows: list[Row]) -> list[str]:
    return [str(r.fields["name"]) for r in rows]


def test_a_model_on_several_nodes_is_one_row() -> None:
    """Spellings of one name meet in one row; it has the latest modified_at and the fields that belong to it."""
    merged = merge_tags({"gpu1": [row("tiny:latest", time=1, size=5)], "gpu2": [row("Tiny:latest", time=9, size=5)]})

    assert [(r.fields["modified_at"], r.fields["size"]) for r in merged] == [("9", 5)]


def test_newest_first() -> None:
    """Rows are sorted by modified_at, the newest first, equal ones by name."""
    merged = merge_tags({"gpu1": [row("b", time=5), row("a", time=5.4), row("z", time=7)]})

    assert names(merged) == ["z", "a", "b"]


def test_most_nodes_decide_what_a_name_means() -> None:
    """With different contents the majority counts, though another is newer."""
    listings = {"gpu1": [row("m", A, 1)], "gpu2": [row("m", A, 2)], "gpu3": [row("m", B, 9)]}

    assert [(r.digest, r.time) for r in merge_tags(listings)] == [(A, 2)]


def test_the_newest_decides_where_there_is_no_majority() -> None:
    """One against one: the newer."""
    assert [r.digest for r in merge_tags({"gpu1": [row("m", A, 1)], "gpu2": [row("m", B, 9)]})] == [B]


def test_drift_names_who_holds_what() -> None:
    """Only names with different contents are drift, with the nodes of each."""
    listings = {"gpu1": [row("m", A), row("x", C)], "gpu2": [row("m", B), row("x", C)], "gpu3": [row("m", A)]}

    (drift,) = find_drift(listings)

    assert (drift.name, drift.digests) == ("m:latest", {A: ("gpu1", "gpu3"), B: ("gpu2",)})


def test_memory_of_the_fleet_is_added_up() -> None:
    """One content loaded on two nodes: sizes are sums, the context the smallest, the end the latest."""
    listings = {
        "gpu1": [row("m", time=10, size=4, size_vram=4, context_length=8192)],
        "gpu2": [row("m", time=20, size=4, size_vram=2, context_length=4096)],
    }

    (merged,) = merge_loaded(listings)

    assert (merged.time, merged.fields["modified_at"]) == (20, "20")
    assert {k: merged.fields[k] for k in ("size", "size_vram", "context_length")} == {
        "size": 8,
        "size_vram": 6,
        "context_length": 4096,
    }


def test_an_old_ollama_without_context_length_stays_so() -> None:
    """No field is invented."""
    (merged,) = merge_loaded({"gpu1": [row("m", size=4, size_vram=4)]})

    assert "context_length" not in merged.fields


def test_different_contents_in_memory_are_rows_of_their_own() -> None:
    """Two contents under one name do not share memory."""
    assert len(merge_loaded({"gpu1": [row("m", A, size=1)], "gpu2": [row("m", B, size=1)]})) == 2


def test_openai_rows() -> None:
    """A row of /v1/models has the name's namespace as its owner; a given spelling is kept."""
    assert openai_model(row("acme/support:v3", time=7.9)) == {
        "id": "acme/support:v3",
        "object": "model",
        "created": 7,
        "owned_by": "acme",
    }
    assert openai_model(row("tiny:latest"), "TINY")["id"] == "TINY"


listings = st.dictionaries(
    st.sampled_from(["gpu1", "gpu2", "gpu3", "gpu4"]),
    st.lists(
        st.builds(
            row,
            st.sampled_from(["a", "A", "b", "ns/c:v1", "d:q4"]),
            st.sampled_from([A, B, C]),
            st.integers(0, 5).map(float),
            size=st.integers(0, 9),
        ),
        max_size=5,
        unique_by=lambda r: r.key,
    ),
)


@given(listings, st.randoms(use_true_random=False))
def test_the_order_of_nodes_does_not_matter(given_listings: dict[str, list[Row]], rng: random.Random) -> None:
    """Every merge is the same whichever node answered first, and lists each name held exactly once."""
    order = list(given_listings)
    rng.shuffle(order)
    other = {node: given_listings[node] for node in order}

    assert merge_tags(given_listings) == merge_tags(other)
    assert merge_loaded(given_listings) == merge_loaded(other)
    assert find_drift(given_listings) == find_drift(other)
    assert sorted(r.key for r in merge_tags(other)) == sorted({r.key for rows in other.values() for r in rows})
