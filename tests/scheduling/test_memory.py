"""What fits into a host's memory, learned against hosts whose size is known to the test alone."""

import math

from hypothesis import given
from hypothesis import strategies as st

from olladist.scheduling.machines import Machine, Runner
from olladist.scheduling.memory import FORGOTTEN, OVERHEAD, Memory
from olladist.scheduling.residents import Resident

GB = 10**9


def rows(**gigabytes: float) -> dict[str, Resident]:
    return {model: Resident(0.0, int(size * GB), int(size * GB)) for model, size in gigabytes.items()}


def nothing_known(_: str) -> int:
    return 10 * GB


def test_what_was_seen_together_fits() -> None:
    """And so does what nobody has tried."""
    memory = Memory()
    memory.seen(rows(a=10, b=10), 0.0)

    assert memory.proven == 20 * GB
    assert memory.fits({"a"}, "b", nothing_known)
    assert memory.fits({"a", "b"}, "c", nothing_known)


def test_what_made_others_go_does_not() -> None:
    """Nor does anything larger; the first model always does."""
    memory = Memory()
    memory.seen(rows(a=10, b=10), 0.0)
    memory.seen(rows(b=10, c=8), 2.0)
    memory.overflowed(["a", "b"], "c", nothing_known, 2.0)

    assert (memory.proven, memory.refuted) == (20 * GB, 28 * GB)
    assert not memory.fits({"a", "b"}, "c", nothing_known)
    assert not memory.fits({"a", "b"}, "unknown", nothing_known)
    assert memory.fits({"a", "c"}, "small", lambda _: GB)
    assert memory.fits((), "huge", lambda _: 1000 * GB)


def test_what_is_seen_later_is_believed() -> None:
    """The GPU was in use for something else then."""
    memory = Memory()
    memory.seen(rows(a=10, b=10), 0.0)
    memory.overflowed(["a"], "b", nothing_known, 0.0)
    assert not memory.fits({"a"}, "b", nothing_known)

    memory.seen(rows(a=10, b=10), 2.0)
    assert memory.fits({"a"}, "b", nothing_known)


def test_it_is_tried_again_after_an_hour() -> None:
    """One load is the price."""
    memory = Memory()
    memory.seen(rows(a=10, b=10), 0.0)
    memory.overflowed(["a"], "b", nothing_known, 0.0)
    memory.seen(rows(a=10), FORGOTTEN + 1.0)

    assert memory.fits({"a"}, "b", nothing_known)


def test_a_model_that_is_larger_than_the_gpu_shows_how_large_that_is() -> None:
    """The rest of it lies elsewhere and proves nothing; a host without a GPU has its memory."""
    memory = Memory()
    memory.seen({"a": Resident(0.0, 30 * GB, 20 * GB)}, 0.0)
    assert (memory.proven, memory.need("a", nothing_known)) == (20 * GB, 30 * GB)

    without = Memory()
    without.seen({"a": Resident(0.0, 30 * GB, 0)}, 0.0)
    assert without.proven == 30 * GB


def test_a_machine_has_room_as_its_memory_has() -> None:
    """Options make another runner of the same model, and no other model."""
    memory = Memory()
    memory.seen(rows(a=10, b=10), 0.0)
    memory.overflowed(["a"], "b", nothing_known, 0.0)
    machine = Machine(1, models_max=5, memory=memory, runners={"a|num_ctx=1": Runner("a|num_ctx=1", 1, False, 0.0)})

    assert not machine.has_room("b|num_ctx=2", nothing_known)
    assert machine.has_room("b|num_ctx=2", nothing_known, "a|num_ctx=1")
    assert machine.has_room("tiny", lambda _: GB)


_sizes = st.lists(st.integers(1, 40), min_size=2, max_size=8)


@given(_sizes, st.integers(20, 100), st.lists(st.integers(0, 7), max_size=60), st.floats(1.0, 2.0))
def test_a_host_is_learned_by_ever_smaller_mistakes(
    sizes: list[int], capacity: int, asked: list[int], overhead: float
) -> None:
    """What was thought to fit and did not is not tried again, nor what is larger; and what has fitted is never thought not to."""
    needs = {str(n): int(min(size * overhead, capacity) * GB) for n, size in enumerate(sizes)}
    weights = {str(n): size * GB for n, size in enumerate(sizes)}
    memory = Memory()
    loaded: list[str] = []  # the one that was used last is last
    seen: set[str] = set()
    mistakes, fitted = [math.inf], 0
    for now, number in enumerate(asked):
        wanted = str(number % len(sizes))
        if wanted in loaded:
            loaded.remove(wanted)
            loaded.append(wanted)
            continue
        while not memory.fits(loaded, wanted, weights.__getitem__):
            assert sum(memory.need(model, weights.__getitem__) for model in {*loaded, wanted}) > fitted
            loaded.pop(0)
        before = list(loaded)
        while sum(needs[model] for model in (*loaded, wanted)) > capacity * GB:
            loaded.pop(0)
        gone = set(before) - set(loaded)
        loaded.append(wanted)
        memory.seen({model: Resident(0.0, needs[model], needs[model]) for model in loaded}, float(now))
        fitted = max(fitted, sum(needs[model] for model in loaded))
        if gone:
            memory.overflowed(before, wanted, weights.__getitem__, float(now))
            total = sum(needs[model] for model in (*before, wanted))
            assert total < mistakes[-1] or wanted not in seen
            mistakes.append(total)
        seen.add(wanted)
        assert memory.proven <= capacity * GB < memory.refuted


def test_a_model_that_was_never_seen_takes_a_little_more_than_its_weights() -> None:
    """For its context."""
    assert Memory().need("a", lambda _: 10 * GB) == 10 * GB * OVERHEAD
