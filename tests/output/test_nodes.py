"""Folding of host names."""

import re

from hypothesis import given
from hypothesis import strategies as st

from olladist.output.nodes import fold


def expanded(pattern: str) -> set[str]:
    """What a folded pattern stands for, written the long way."""
    names = set()
    for part in pattern.split(","):
        if match := re.fullmatch(r"(.*)\[(\d+)-(\d+)\]", part):
            names |= {f"{match[1]}{number}" for number in range(int(match[2]), int(match[3]) + 1)}
        else:
            names.add(part)
    return names


def test_runs_become_ranges() -> None:
    """Consecutive numbers fold, the rest stands alone, in the order of the prefixes."""
    assert fold(["gpu1", "gpu2", "box", "gpu3", "gpu7"]) == "gpu[1-3],gpu7,box"


def test_leading_zeros_stay() -> None:
    """gpu09 and gpu10 are no range: nobody could tell how many digits it has."""
    assert fold(["gpu08", "gpu09", "gpu10", "gpu11"]) == "gpu0[8-9],gpu[10-11]"


names = st.from_regex(r"[a-z]{1,3}(-[a-z])?[0-9]{0,4}", fullmatch=True)


@given(st.sets(names, min_size=1))
def test_folding_loses_and_adds_nothing(hosts: set[str]) -> None:
    """A folded pattern stands for exactly the names that went in."""
    assert expanded(fold(sorted(hosts))) == hosts
