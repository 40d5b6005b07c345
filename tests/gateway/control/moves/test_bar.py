from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.control.moves.bar import Bar

DIGEST = "sha256:" + "a" * 64
moves = st.lists(st.tuples(st.sampled_from(["gpu1", "gpu2", "gpu9"]), st.integers(0, 2000)))


@given(st.dictionaries(st.sampled_from(["gpu1", "gpu2"]), st.integers(0, 1000)), moves, st.booleans())
def test_clients_can_draw_it(missing: dict[str, int], moved: list[tuple[str, int]], ends: bool) -> None:
    """Whatever hosts report, the total stays, what is completed grows, and it is the total only at the end."""
    bar = Bar("copying", DIGEST, missing)
    lines = [bar.start()]
    lines += [line for host, done in moved if (line := bar.moved(host, done))]
    last = bar.finish() if ends else None

    total = sum(missing.values())
    if not total:
        assert (lines, last) == ([{"status": "copying"}], None)
        return
    completed = [int(str(line.get("completed", 0))) for line in lines]
    assert {line["total"] for line in lines} == {total}
    assert {line["digest"] for line in lines} == {DIGEST}
    assert completed == sorted(set(completed))
    assert completed[-1] < total
    assert last is None or last["completed"] == total


def test_hosts_are_added_up() -> None:
    """One bar for all of them."""
    bar = Bar("copying to gpu1 and gpu2", DIGEST, {"gpu1": 10, "gpu2": 30})

    assert bar.start() == {"status": "copying to gpu1 and gpu2", "digest": DIGEST, "total": 40}
    assert (bar.moved("gpu1", 5) or {})["completed"] == 5
    assert (bar.moved("gpu2", 5) or {})["completed"] == 10
    assert bar.moved("gpu2", 5) is None
    assert (bar.finish() or {})["completed"] == 40
