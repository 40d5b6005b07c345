"""What is tried on a fork happens to nobody."""

from olladist.scheduling.forked import Forked


def test_what_is_looked_up_is_a_copy() -> None:
    """Once: who looks again sees what has been done to it; the original stays as it was."""
    source = {1: [1], 2: [2]}
    fork = Forked(source, list.copy)
    fork[1].append(9)
    there = fork.get(2)
    assert there is not None
    there.append(8)

    assert (fork[1], fork.get(2), source) == ([1, 9], [2, 8], {1: [1], 2: [2]})


def test_what_is_set_or_taken_out_is_so_there_alone() -> None:
    """And a value that was put in is no copy."""
    source = {1: [1]}
    fork = Forked(source, list.copy)
    mine = [3]
    fork[3] = mine
    del fork[1]

    assert (fork[3] is mine, fork.get(1), fork.get(7, "none"), source) == (True, None, "none", {1: [1]})
