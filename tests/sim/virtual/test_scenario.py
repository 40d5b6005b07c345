"""Fleets and what comes to them."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.sim.virtual.scenario import Shape, load_seconds, make, read_trace, seconds_of


def test_the_same_seed_gives_the_same_scenario() -> None:
    """And another seed another one."""
    assert make(Shape(requests=50)) == make(Shape(requests=50))
    assert make(Shape(requests=50, seed=2)) != make(Shape(requests=50))


def test_the_load_is_what_was_asked_for() -> None:
    """The work that comes, over what all slots can do in that time."""
    shape = Shape(requests=4000, load=0.5)
    scenario = make(shape)
    models = {model.name: model for model in scenario.models}
    host = scenario.hosts[0]._replace(speed=1.0)
    work = sum(sum(seconds_of(host, models[job.model], job.prompt, job.output)) for job in scenario.jobs)
    slots = sum(each.speed * each.slots * each.models_max for each in scenario.hosts)

    assert work / (slots * scenario.jobs[-1].at) == pytest.approx(0.5, rel=0.1)


def test_loads_take_seconds_not_minutes() -> None:
    """3 to 25 s, as models of 4 to 25 GB do on NVMe."""
    scenario = make(Shape())
    times = [load_seconds(host, model) for host, model in itertools.product(scenario.hosts, scenario.models)]

    assert 2 < min(times) < max(times) < 30


def test_a_turn_of_a_conversation_begins_with_the_ones_before() -> None:
    """Its prefix is what was said so far, up to the context."""
    by_conversation: dict[int, list[tuple[int, int]]] = {}
    for job in make(Shape(requests=400, turns=5.0)).jobs:
        by_conversation.setdefault(job.conversation, []).append((job.prefix, job.prompt))

    assert max(len(turns) for turns in by_conversation.values()) > 3
    assert all(turns[0][0] == 0 for turns in by_conversation.values())
    assert all(prefix <= prompt for turns in by_conversation.values() for prefix, prompt in turns)


@given(
    st.builds(
        Shape,
        hosts=st.integers(1, 20),
        models=st.integers(1, 10),
        requests=st.integers(1, 60),
        skew=st.floats(0, 3),
        burst=st.floats(1, 30),
        turns=st.floats(1, 8),
        failing=st.floats(0, 1),
        seed=st.integers(0, 5),
    )
)
def test_jobs_are_in_order_and_as_many_as_asked(shape: Shape) -> None:
    """Numbered from 0, for models and hosts that there are."""
    scenario = make(shape)

    assert [job.number for job in scenario.jobs] == list(range(shape.requests))
    assert all(early.at <= late.at for early, late in itertools.pairwise(scenario.jobs))
    assert {job.model for job in scenario.jobs} <= {model.name for model in scenario.models}
    assert all(0 <= failure.host < shape.hosts for failure in scenario.failures)


def test_a_trace_is_read_in_the_order_of_its_times() -> None:
    """Blank lines are nothing."""
    lines = [
        b'{"at": 2, "model": "b", "prompt": 5, "output": 6}',
        b"",
        b'{"at": 1.5, "model": "a", "prompt": 1, "output": 2, "key": "k", "conversation": 3, "prefix": 1}',
    ]
    first, second = read_trace(lines)

    assert (first.number, first.at, first.model, first.key, first.prefix) == (0, 1.5, "a", "k", 1)
    assert (second.number, second.prompt, second.output) == (1, 5, 6)


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b'{"at": 1}',
        b'{"at": -1, "model": "a", "prompt": 1, "output": 1}',
        b'{"at": 1, "model": "a", "prompt": 1, "output": 0}',
        b'{"at": 1, "model": "a", "prompt": 1, "output": 1, "prefix": 2}',
        b'{"at": 1, "model": "a", "prompt": 1, "output": 1, "colour": "red"}',
    ],
)
def test_a_bad_line_of_a_trace_is_named(line: bytes) -> None:
    """By its number, which is what an editor shows."""
    with pytest.raises(ValueError, match=r"^line 2: "):
        read_trace([b'{"at": 1, "model": "a", "prompt": 1, "output": 1}', line])
