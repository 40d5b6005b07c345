"""Which node makes a model: pure."""

from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.control.backends import Backend
from olladist.gateway.control.uploads.builder import Candidate, choose_builder, in_order, where_to_copy_from
from olladist.gateway.control.uploads.request import Needs, read_needs
from olladist.inventory.model import Host
from olladist.scheduling.health import State

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def backend(number: int) -> Backend:
    name = f"gpu{number}"
    return Backend(number, name, Host(name, name), 11434, f"{name}:11434", 1)


def test_the_last_one_comes_first_while_it_answers() -> None:
    """Then well ones before those that are not, the designated one, and the order of the inventory."""
    nodes = [backend(n) for n in (1, 2, 3, 4)]
    states = {1: State.DEGRADED, 2: State.UP, 3: State.UP, 4: State.DOWN}

    def names(last: str, designated: str) -> list[str]:
        return [b.node for b in in_order(nodes, states, last, designated)]

    assert names("", "gpu1") == ["gpu2", "gpu3", "gpu1"]
    assert names("", "gpu3") == ["gpu3", "gpu2", "gpu1"]
    assert names("gpu1", "gpu3") == ["gpu1", "gpu3", "gpu2"]
    assert names("gpu4", "gpu2") == ["gpu2", "gpu3", "gpu1"]


def test_who_has_all_of_it_makes_it() -> None:
    """Else who has the base; else who has the most blobs."""
    nothing, base = Candidate("gpu1"), Candidate("gpu2", has_base=True)
    blobs, one = Candidate("gpu3", blobs=frozenset({A, B})), Candidate("gpu4", blobs=frozenset({A}))
    everything = Candidate("gpu5", has_base=True, blobs=frozenset({A, B}))
    needed = frozenset({A, B})

    assert choose_builder([nothing, base, blobs, one, everything], needed) == everything
    assert choose_builder([nothing, base, blobs, one], needed) == base
    assert choose_builder([nothing, one, blobs], needed) == blobs
    assert choose_builder([nothing, one], frozenset()) == nothing
    assert choose_builder([], needed) is None


candidates = st.lists(
    st.builds(
        Candidate, st.sampled_from(["gpu1", "gpu2", "gpu3"]), st.booleans(), st.frozensets(st.sampled_from([A, B]))
    ),
    min_size=1,
    unique_by=lambda candidate: candidate.node,
)


@given(candidates, st.frozensets(st.sampled_from([A, B])))
def test_what_is_there_reaches_the_builder(found: list[Candidate], needed: frozenset[str]) -> None:
    """Whatever blob any node has is on the builder, or is brought from one that has it."""
    builder = choose_builder(found, needed)
    assert builder is not None
    copied = where_to_copy_from(found, needed, builder)
    anywhere = frozenset().union(*(candidate.blobs for candidate in found))

    assert needed & anywhere <= builder.blobs | copied.keys()
    assert all(digest in next(c for c in found if c.node == node).blobs for digest, node in copied.items())


def test_a_request_is_read_as_go_reads_it() -> None:
    """Keys in any case, the last one counts; what is no digest is for the builder to refuse."""
    body = f'{{"FROM": "x", "from": "Base", "Files": {{"a.gguf": "{A}", "b": "?"}}, "adapters": {{"c": "{B.replace(":", "-")}"}}}}'

    assert read_needs(body.encode()) == Needs("Base", frozenset({A, B}))
    assert read_needs(b'{"files": ["x"], "adapters": {"a": 5}, "from": null} trailing') == Needs()
    assert read_needs(b"null") == Needs()


@given(st.binary())
def test_any_bytes_in_its_values_are_no_crash(junk: bytes) -> None:
    """What Go would take for a string may be anything."""
    text = junk.decode("latin-1").replace("\\", "").replace('"', "")
    body = '{"files": {"a": "' + "".join(c for c in text if c >= " ") + '"}}'

    assert read_needs(body.encode()).base == ""
