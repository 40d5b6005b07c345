from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.errors import UsageError
from olladist.inventory.model import DeclaredModel, Host, Inventory
from olladist.inventory.select import choose, hosts_for, select
from olladist.ollama.names import parse_name

HOSTS = ("gpu1", "gpu2", "gpu3", "gpu7", "gpu10", "gpu08", "big-a100", "laptop")
GROUPS = {"rack1": ("gpu1", "gpu2"), "rack2": ("gpu7", "gpu10"), "x-a100": ("laptop",), "empty": ()}
INVENTORY = Inventory(Path("i.toml"), "lab", {name: Host(name, name) for name in HOSTS}, GROUPS)


def picked(pattern: str | None) -> list[str]:
    return [host.name for host in select(INVENTORY, pattern)]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        (None, HOSTS),
        ("*", HOSTS),
        ("gpu1", ("gpu1",)),
        ("rack2", ("gpu7", "gpu10")),
        ("gpu10,rack1", ("gpu1", "gpu2", "gpu10")),
        (" laptop , gpu1 ,", ("gpu1", "laptop")),
        ("rack?,!gpu7", ("gpu1", "gpu2", "gpu10")),
        ("!gpu7,rack2", ("gpu10",)),
        ("!gpu*", ("big-a100", "laptop")),
        ("*-a100", ("big-a100", "laptop")),
        ("gpu[1-3]", ("gpu1", "gpu2", "gpu3")),
        ("gpu[3-10]", ("gpu3", "gpu7", "gpu10")),
        ("gpu[1,7-9]", ("gpu1", "gpu7")),
        ("gpu[07-09]", ("gpu08",)),
        ("gpu[!12]", ("gpu3", "gpu7")),
        ("[bl]*", ("big-a100", "laptop")),
        ("[a-c]ig*", ("big-a100",)),
        ("rack[1-2],![gl]*10", ("gpu1", "gpu2", "gpu7")),
    ],
)
def test_patterns_pick_hosts(pattern: str | None, names: tuple[str, ...]) -> None:
    """In the order of the file, whatever the order of the parts."""
    assert picked(pattern) == list(names)


@pytest.mark.parametrize(
    ("pattern", "message", "hint"),
    [
        ("gpu11", "'gpu11' is neither a host nor a group", "did you mean gpu1?"),
        ("gpu1,rak2", "'rak2' is neither a host nor a group", "did you mean rack2?"),
        ("!gpu77", "'gpu77' is neither a host nor a group", "did you mean gpu7?"),
        ("lapto[a-o]", "'lapto[a-o]' matches neither a host nor a group", "did you mean laptop?"),
        ("gpu1,!gpu1", "'gpu1,!gpu1' leaves no host", "known are gpu1, gpu2, gpu3, gpu7, gpu10, gpu08, big-a100, laptop, rack1, rack2, x-a100, empty"),
        ("empty", "'empty' leaves no host", "known are gpu1, gpu2, gpu3, gpu7, gpu10, gpu08, big-a100, laptop, rack1, rack2, x-a100, empty"),
        ("", "an empty pattern picks no host", '"*" stands for all hosts'),
        (",", "an empty pattern picks no host", '"*" stands for all hosts'),
        ("gpu[1-3", "'gpu[1-3' has a bracket without its other half", ""),
        ("gpu]", "'gpu]' has a bracket without its other half", ""),
        ("gpu[]", "'gpu[]' has nothing in its brackets", ""),
        ("gpu[3-1]", "'gpu[3-1]' has a range that runs backwards", ""),
        ("gpu[c-a]", "'gpu[c-a]' has a range that runs backwards", ""),
        ("gpu[1-999999]", "'gpu[1-999999]' stands for more than 10000 numbers", ""),
    ],
)  # fmt: skip
def test_a_part_that_picks_nothing_is_an_error(pattern: str, message: str, hint: str) -> None:
    """A mistyped name must not silently pick fewer hosts, least of all behind a `!`."""
    with pytest.raises(UsageError) as caught:
        select(INVENTORY, pattern)

    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_long_lists_of_names_are_cut() -> None:
    """A hint fits on a line."""
    with pytest.raises(UsageError) as caught:
        choose([f"node{number}" for number in range(500)], {}, ["§§§"])

    assert caught.value.hint.endswith("node11 and 488 more")


def test_a_model_goes_to_the_hosts_of_its_on() -> None:
    """Several patterns count together; a model may match none after a `!`."""
    name = parse_name("m")

    assert [h.name for h in hosts_for(INVENTORY, DeclaredModel(name, ("rack1", "laptop", "!gpu1")))] == [
        "gpu2",
        "laptop",
    ]
    assert hosts_for(INVENTORY, DeclaredModel(name, ("gpu1", "!rack1"))) == ()
    assert len(hosts_for(INVENTORY, DeclaredModel(name))) == len(HOSTS)


def test_many_stars_cost_little() -> None:
    """A pattern that a backtracking matcher would try for ever."""
    with pytest.raises(UsageError, match="matches neither"):
        choose(["a" * 64], {}, ["*a" * 40 + "*b"])


names = st.lists(st.text("ab1-", min_size=1, max_size=6), min_size=1, max_size=8, unique=True)


@given(names, st.text("ab1-*?", min_size=1, max_size=8))
def test_stars_match_as_in_a_shell(hosts: list[str], pattern: str) -> None:
    """fnmatch is the oracle for `*` and `?`."""
    expected = {host for host in hosts if fnmatchcase(host, pattern)}
    try:
        found = choose(hosts, {}, [pattern])
    except UsageError:
        found = frozenset()

    assert found == expected


@given(names, st.integers(0, 30), st.integers(0, 30), st.booleans())
def test_ranges_are_numbers(hosts: list[str], low: int, high: int, padded: bool) -> None:
    """`n[low-high]` picks exactly the numbers between, in the width of a padded first one."""
    low, high = sorted((low, high))
    machines = [f"n{number}" for number in range(31)] + [f"n{number:02}" for number in range(10)]
    first = f"{low:02}" if padded and low < 10 else str(low)
    width = len(first) if first.startswith("0") else 0

    assert choose(machines, {}, [f"n[{first}-{high}]"]) == {f"n{number:0{width}}" for number in range(low, high + 1)}


@given(st.text(), st.lists(st.text(), max_size=4))
def test_any_pattern_picks_or_is_refused(pattern: str, hosts: list[str]) -> None:
    """Nothing but UsageError comes out, and nothing but hosts is picked."""
    try:
        found = choose([*HOSTS, *hosts], GROUPS, [pattern])
    except UsageError as error:
        assert error.message  # noqa: PT017  either outcome is right
        return

    assert found <= {*HOSTS, *hosts}


@given(st.lists(st.sampled_from([*HOSTS, *GROUPS, "gpu*", "!gpu1", "!rack2", "!*"]), min_size=1))
def test_the_order_of_parts_does_not_matter(parts: list[str]) -> None:
    """Neither in one pattern nor over several."""
    assert choose(HOSTS, GROUPS, [",".join(parts)]) == choose(HOSTS, GROUPS, reversed(parts))
