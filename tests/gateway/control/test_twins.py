"""Names that share a runner although their manifests differ, found by asking."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.control.prober import Prober
from olladist.gateway.control.roster import Roster
from olladist.gateway.control.twins import NEAR, Model, Twins, same, suspects
from olladist.gateway.control.upstreams import Upstreams
from tests.gateway.control.nodes import FAST, HANG, Node, running, tag, task_group, wait_until

A, B, C = "a" * 64, "b" * 64, "c" * 64
WEIGHTS = f"sha256:{'f' * 64}"


def sized(name: str, digest: str, size: int, family: str = "llama") -> dict[str, Any]:
    row = tag(name, digest)
    return {**row, "size": size, "details": {**row["details"], "family": family}}


def shows(node: Node, weights: str) -> None:
    document = {"modelfile": f"# comment\n\nFROM /models/blobs/sha256-{weights}\nTEMPLATE x\n"}
    node.answers["/api/show"] = (200, document)


@asynccontextmanager
async def looking(*nodes: Node) -> AsyncIterator[list[Mapping[str, str]]]:
    """What is found, each time."""
    found: list[Mapping[str, str]] = []
    roster = Roster(time.monotonic)
    upstreams = Upstreams(roster)
    async with running(*nodes):
        async with task_group() as tasks:
            prober = Prober(roster, tasks, pace=FAST)
            roster.swap([node.backend(number, f"gpu{number}") for number, node in enumerate(nodes)])
            await prober.wait_first(10)
            looks = tasks.create_task(Twins(roster, upstreams, found.append).run())
            try:
                yield found
            finally:
                looks.cancel()
        await upstreams.close()


async def test_twins_are_found() -> None:
    """One question for each of them, wherever it is; none for a model that is like no other."""
    one, two = Node(), Node()
    one.holds(sized("tiny:latest", A, 10**9), sized("other:latest", C, 5 * 10**9))
    two.holds(sized("persona:latest", B, 10**9 + 300))
    for node in (one, two):
        shows(node, "f" * 64)
    async with looking(one, two) as found:
        await wait_until(lambda: bool(found), "the twins to be found")

    assert found == [{A: WEIGHTS, B: WEIGHTS}]
    assert (one.asked["/api/show"], two.asked["/api/show"]) == (1, 1)


async def test_models_that_only_look_alike_are_none() -> None:
    """Two finetunes of one size have files of their own."""
    one, two = Node(), Node()
    one.holds(sized("tiny:latest", A, 10**9))
    two.holds(sized("tuned:latest", B, 10**9))
    shows(one, "f" * 64)
    shows(two, "e" * 64)
    async with looking(one, two) as found:
        await wait_until(lambda: one.asked["/api/show"] + two.asked["/api/show"] == 2, "both to be asked")
        one.holds(sized("tiny:latest", A, 10**9), sized("persona:latest", C, 10**9))
        await wait_until(lambda: bool(found), "a real twin to be found")

    assert found == [{A: WEIGHTS, C: WEIGHTS}]


async def test_one_that_does_not_say_is_none() -> None:
    """Nonsense, an error, and silence: others are asked, and the answer waits for a better day."""
    one, two, three = Node(), Node(), Node()
    for node in (one, two, three):
        node.holds(sized("tiny:latest", A, 10**9), sized("persona:latest", B, 10**9))
    one.answers["/api/show"] = (500, {"error": "no"})
    two.answers["/api/show"] = (200, [1, 2])
    shows(three, "f" * 64)
    async with looking(one, two, three) as found:
        await wait_until(lambda: bool(found), "the third to be asked")

    assert found == [{A: WEIGHTS, B: WEIGHTS}]


async def test_one_that_comes_later_is_found_too() -> None:
    """When it is listed."""
    node = Node()
    node.holds(sized("tiny:latest", A, 10**9))
    shows(node, "f" * 64)
    async with looking(node) as found:
        node.holds(sized("tiny:latest", A, 10**9), sized("persona:latest", B, 10**9))
        await wait_until(lambda: bool(found), "the twin to be found")

    assert node.asked["/api/show"] == 2


async def test_a_host_that_hangs_is_not_waited_for_by_anybody_else() -> None:
    """The task alone waits for it, and ends when it is told to."""
    node = Node({"/api/show": HANG})
    node.holds(sized("tiny:latest", A, 10**9), sized("persona:latest", B, 10**9))
    async with looking(node) as found:
        await wait_until(lambda: node.asked["/api/show"] > 0, "it to be asked")

    assert found == []


_files = st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from("xyz"), max_size=2).map(tuple))


@given(_files)
def test_the_same_files_are_the_same(files: dict[str, tuple[str, ...]]) -> None:
    """In the same order; what has none has nothing in common with anybody."""
    told = same(files)
    for one, what in files.items():
        others = [each for each, its in files.items() if each != one and what and its == what]
        assert (one in told) == bool(others)
        assert all(told[one] == told[each] for each in others)


def test_only_what_is_near_in_size_is_suspected() -> None:
    """A template makes no gigabyte."""
    rows = {"a": 0, "b": NEAR, "c": 3 * NEAR, "d": 4 * NEAR + 1}
    models = {digest: _model("llama", size) for digest, size in rows.items()}

    assert sorted(suspects(models)) == ["a", "b"]
    assert suspects({"a": _model("llama", 1), "b": _model("bert", 1)}) == []


def _model(family: str, size: int) -> Model:
    return Model((family,), size, "key")
