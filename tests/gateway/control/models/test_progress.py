from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.control.models.progress import SUCCESS, BadProgress, Line, Progress

SIZES = {"sha256:" + name * 64: size for name, size in (("a", 1), ("b", 700), ("c", 10**10))}
STATUSES = ("pulling manifest", "verifying sha256 digest", "writing manifest", "removing unused layers")
GONE = "lost the connection"


def pulling(digest: str, completed: int) -> Line:
    line: Line = {"status": f"pulling {digest[7:19]}", "digest": digest, "total": SIZES[digest]}
    return line | ({"completed": completed} if completed else {})


@st.composite
def script(draw: st.DrawFn) -> list[Line | str]:
    """What one node says: all of a pull, as far as it comes, and how it ends."""
    lines: list[Line | str] = [{"status": STATUSES[0]}]
    for digest, size in SIZES.items():
        steps = sorted(draw(st.lists(st.integers(0, size), max_size=4)))
        lines += [pulling(digest, step) for step in (*steps, size)]
    lines += [{"status": status} for status in STATUSES[1:3]]
    if draw(st.booleans()):
        lines.append({"status": STATUSES[3]})
    if draw(st.booleans()):
        return [*lines, {"status": SUCCESS}]
    cut = draw(st.integers(0, len(lines)))
    return [*lines[:cut], {"error": "no space left on device"} if draw(st.booleans()) else GONE]


@dataclass
class Told:
    """What a client was told, each line with what the nodes had said by then."""

    progress: Progress
    lines: list[Line]
    said: list[dict[str, tuple[Line, ...]]]


@st.composite
def told(draw: st.DrawFn) -> Told:
    scripts = {f"gpu{n + 1}": draw(script()) for n in range(draw(st.integers(1, 4)))}
    order = draw(st.permutations([node for node, lines in scripts.items() for _ in lines]))
    progress = Progress(scripts)
    result = Told(progress, [], [])
    said: dict[str, tuple[Line, ...]] = dict.fromkeys(scripts, ())
    now = 0.0
    for node in order:
        now += draw(st.sampled_from([0.0, 0.01, 0.06, 2.0]))
        line = scripts[node][len(said[node])]
        if isinstance(line, str):
            said[node] += ({},)
            new = progress.fail(node, line, now)
        else:
            said[node] += (line,)
            new = progress.take(node, line, now)
        result.lines += new
        result.said += [dict(said)] * len(new)
    assert progress.done
    result.lines += progress.finish()
    return result


@given(told())
def test_bars_grow_to_their_end_and_never_change_their_length(told: Told) -> None:
    """For each digest: one status and one total, completed never falls, and is the total once if anybody got there."""
    for digest, size in SIZES.items():
        lines = [line for line in told.lines if line.get("digest") == digest]
        completed = [line.get("completed", 0) for line in lines]
        mentioned = bool(lines)

        assert {(line["status"], line["total"]) for line in lines} <= {(f"pulling {digest[7:19]}", size)}
        assert completed == sorted(completed)
        assert all(0 <= step <= size for step in completed)
        assert completed.count(size) <= 1
        assert completed.count(size) == 1 or not (mentioned and told.progress.succeeded)


@given(told())
def test_success_comes_once_and_last_or_an_error_does(told: Told) -> None:
    """One node that has it is enough; without one the stream ends in an error and nothing else."""
    last = {"status": SUCCESS} if told.progress.succeeded else {"error": told.progress.error()}

    assert told.lines[-1] == last
    assert Counter("error" in line or line["status"] == SUCCESS for line in told.lines)[True] == 1


@given(told())
def test_statuses_come_once_and_in_order(told: Told) -> None:
    """A status that has no bar is drawn anew each time it comes."""
    statuses = [line["status"] for line in told.lines if "digest" not in line and "error" not in line]
    known = [status for status in statuses if status in STATUSES]

    assert known == sorted(known, key=STATUSES.index)
    assert len(set(statuses)) == len(statuses)
    assert not statuses or statuses[0] in (STATUSES[0], SUCCESS)


@given(told())
def test_nothing_is_said_to_be_done_before_all_have_done_it(told: Told) -> None:
    """A full bar and every status but the first wait for the last node that has not failed."""
    for line, said in zip(told.lines, told.said, strict=False):
        going_on = {n: lines for n, lines in said.items() if not lines or (lines[-1] and "error" not in lines[-1])}
        behind = {n: lines for n, lines in going_on.items() if not lines or lines[-1] != {"status": SUCCESS}}
        if line.get("completed") == line.get("total", -1):
            assert all(pulling(line["digest"], line["total"]) in lines for lines in behind.values())
        elif line["status"] in STATUSES[1:]:
            assert all(line in lines for lines in behind.values())


@given(told())
def test_who_has_not_got_it_is_named(told: Told) -> None:
    """Before success each node that failed has a line with its reason."""
    statuses = [line.get("status") for line in told.lines]
    if told.progress.succeeded:
        for node, why in told.progress.failed.items():
            assert statuses.count(f"not done on {node}: {why}") == 1


@given(script())
def test_one_node_is_told_as_it_tells(lines: list[Line | str]) -> None:
    """With one node every status passes at once, and every step of a bar that can be seen."""
    progress, now = Progress(["gpu1"]), 0.0
    for line in lines:
        now += 0.06
        if isinstance(line, str):
            assert progress.fail("gpu1", line, now) == []
        elif "digest" not in line and "error" not in line and line["status"] != SUCCESS:
            assert progress.take("gpu1", line, now) == [line]
        else:
            assert progress.take("gpu1", line, now) in ([], [line])


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
fields = st.fixed_dictionaries({}, optional=dict.fromkeys(["status", "digest", "total", "completed", "error"], json))


@given(st.lists(json | fields, max_size=8))
def test_whatever_a_node_says_is_progress_or_is_not(lines: list[Any]) -> None:
    """Nothing that a node may send breaks the telling."""
    progress = Progress(["gpu1", "gpu2"])
    for line in lines:
        try:
            progress.take("gpu1", line, 0.0)
        except BadProgress as bad:
            progress.fail("gpu1", str(bad), 0.0)
    progress.fail("gpu1", GONE, 1.0)
    progress.fail("gpu2", GONE, 1.0)

    assert progress.done
    assert len([line for line in progress.finish() if "error" in line or line["status"] == SUCCESS]) == 1


def test_the_same_words_everywhere_are_said_as_they_are() -> None:
    """Clients know some errors by their text (cmd/cloud_suggest.go); different ones are told apart by node."""
    text = "pull model manifest: file does not exist"
    progress = Progress(["gpu1", "gpu2"])
    for node in progress.nodes:
        progress.take(node, {"error": text}, 0.0)
    assert progress.finish() == [{"error": text}]

    progress = Progress(f"gpu{n}" for n in range(1, 8))
    for node in progress.nodes:
        progress.fail(node, f"{node} is full", 0.0)
    assert progress.error() == (
        "gpu1: gpu1 is full; gpu2: gpu2 is full; gpu3: gpu3 is full; gpu4: gpu4 is full; gpu5: gpu5 is full; and 2 more"
    )


def test_the_bar_is_the_mean() -> None:
    """What has come to the nodes of what shall come to them."""
    digest = "sha256:" + "b" * 64
    progress = Progress(["gpu1", "gpu2"])

    assert progress.take("gpu1", pulling(digest, 700), 0.0) == [pulling(digest, 350)]
    assert progress.take("gpu2", pulling(digest, 1), 1.0) == [pulling(digest, 350)]
    assert progress.take("gpu2", pulling(digest, 699), 2.0) == [pulling(digest, 699)]
    assert progress.take("gpu2", {"error": "full"}, 3.0) == [pulling(digest, 700)]


def test_many_nodes_do_not_say_more_than_one() -> None:
    """A bar that has hardly grown has a line 20 times a second at most, and one in a second when it stands."""
    digest = "sha256:" + "c" * 64
    progress = Progress(["gpu1"])
    lines = [progress.take("gpu1", pulling(digest, 1000 + n), n / 1000) for n in range(1000)]
    assert 15 <= sum(map(len, lines)) <= 21

    lines = [progress.take("gpu1", pulling(digest, 1999), 2 + n / 1000) for n in range(5000)]
    assert 4 <= sum(map(len, lines)) <= 6


@pytest.mark.parametrize("name", ["digest", "status"])
def test_a_node_cannot_fill_our_memory(name: str) -> None:
    """Ten thousand digests or statuses are no pull."""
    progress = Progress(["gpu1", "gpu2"])
    progress.take("gpu1", {"status": "pulling manifest"}, 0.0)
    lines = [{"status": "x", "total": 5, name: f"sha256:{number}"} for number in range(1001)]
    for line in lines[:-1]:
        progress.take("gpu1", line, 0.0)

    with pytest.raises(BadProgress, match="more than 1000"):
        progress.take("gpu1", lines[-1], 0.0)
