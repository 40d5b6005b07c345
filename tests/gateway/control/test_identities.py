"""What names stand for, over all nodes."""

from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.control.identities import Identities


def test_names_of_one_content_are_one() -> None:
    """And each says that there is the other."""
    identities = Identities()
    identities.replace({}, {"a": "1", "b": "1", "c": "2"})

    assert identities.of("a") == identities.of("b") == "1"
    assert (identities.has_aliases("a"), identities.has_aliases("c")) == (True, False)


def test_nodes_that_differ_are_told_apart_by_the_name_alone() -> None:
    """Until they agree again."""
    identities = Identities()
    identities.replace({}, {"a": "1"})
    assert identities.replace({}, {"a": "2"}) == {"a"}
    assert identities.of("a") == "name:a"

    assert identities.replace({"a": "2"}, {"a": "1"}) == {"a"}
    assert identities.of("a") == "1"


def test_another_node_with_the_same_changes_nothing() -> None:
    """So that a fleet that starts is not gone through for each of its nodes."""
    identities = Identities()
    identities.replace({}, {"a": "1"})

    assert identities.replace({}, {"a": "1"}) == frozenset()


_listings = st.dictionaries(st.sampled_from("abc"), st.sampled_from("123"), max_size=3)


@given(st.lists(st.tuples(st.integers(0, 3), _listings)))
def test_counts_are_what_the_nodes_list(changes: list[tuple[int, dict[str, str]]]) -> None:
    """Whatever came before: an identity follows from the present listings alone, and whoever changes is named."""
    identities = Identities()
    nodes: dict[int, dict[str, str]] = {}
    for number, listing in changes:
        known = {key: identities.of(key) for key in "abc"}
        renamed = identities.replace(nodes.get(number, {}), listing)
        nodes[number] = listing
        for key in "abc":
            digests = {held[key] for held in nodes.values() if key in held}
            expected = next(iter(digests)) if len(digests) == 1 else f"name:{key}"
            assert identities.of(key) == expected
            assert (key in renamed) == (known[key] != expected)
            names = {name for held in nodes.values() for name, digest in held.items() if digest == expected}
            assert identities.has_aliases(key) == (len(names) > 1)
