"""Requests that slow each other down."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.sim.virtual.rules import AtOnce
from olladist.sim.virtual.scenario import Host, Job, Model, Scenario
from olladist.sim.virtual.sharing import Mark, Sharing
from olladist.sim.virtual.world import Outcome, simulate


def test_two_in_one_runner_take_twice_as_long() -> None:
    """And one that is left alone goes on at full speed."""
    sharing = Sharing(1.0)
    sharing.begin(1, "a", 2.0, 0.0)
    sharing.begin(2, "a", 3.0, 0.0)
    assert sharing.next_mark() == Mark(4.0, 1)

    sharing.leave(1, 4.0)
    assert sharing.next_mark() == Mark(5.0, 2)


def test_runners_share_first_and_then_their_slots() -> None:
    """One beside two of another model has half of the host, they a quarter each."""
    sharing = Sharing(1.0)
    for number, model in enumerate("abb"):
        sharing.begin(number, model, 1.0, 0.0)

    assert sharing.next_mark() == Mark(2.0, 0)
    sharing.leave(0, 2.0)
    assert sharing.next_mark() == Mark(3.0, 1)  # half is done, and there are two


def test_a_prompt_stops_the_answers_in_its_runner() -> None:
    """It takes what it takes alone, and they go on from where they were; those of another runner are as slow as ever."""
    sharing = Sharing(1.0)
    sharing.begin(1, "a", 2.0, 0.0)
    sharing.begin(2, "a", 3.0, 1.0, reads=True)
    assert sharing.next_mark() == Mark(4.0, 2)
    sharing.leave(2, 4.0)
    assert sharing.next_mark() == Mark(5.0, 1)

    sharing = Sharing(1.0)
    sharing.begin(1, "a", 2.0, 0.0)
    sharing.begin(2, "b", 2.0, 0.0, reads=True)
    assert sharing.next_mark() == Mark(4.0, 1)


def test_prompts_in_one_runner_wait_for_each_other() -> None:
    """The second is in the next batch; in two runners they share the host."""
    sharing = Sharing(1.0)
    sharing.begin(1, "a", 1.0, 0.0, reads=True)
    sharing.begin(2, "a", 2.0, 0.5, reads=True)
    assert sharing.next_mark() == Mark(1.0, 1)
    sharing.leave(1, 1.0)
    assert sharing.next_mark() == Mark(3.0, 2)

    sharing = Sharing(1.0)
    sharing.begin(1, "a", 1.0, 0.0, reads=True)
    sharing.begin(2, "b", 2.0, 0.0, reads=True)
    assert sharing.next_mark() == Mark(2.0, 1)


def test_without_sharing_nobody_is_slower() -> None:
    """Slots of their own."""
    sharing = Sharing(0.0)
    sharing.begin(1, "a", 2.0, 0.0)
    sharing.begin(2, "a", 2.5, 1.0, reads=True)

    assert sharing.next_mark() == Mark(2.0, 1)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0.1, 5.0), st.floats(0.0, 3.0)), min_size=1, max_size=8))
def test_a_host_does_no_more_than_one_at_a_time(requests: list[tuple[str, float, float]]) -> None:
    """However they come: the last is done when a host that is never idle with work before it would be."""
    jobs = tuple(
        Job(number, at, model, 0, round(100 * work))
        for number, (model, work, at) in enumerate(sorted(requests, key=lambda each: each[2]))
    )
    models = tuple(Model(name, 1e9, 100.0, 100.0) for name in "ab")
    host = Host("gpu1", 1.0, 8, 2, 1e12, sharing=1.0)

    ends = sorted(outcome.job.at + outcome.total for outcome in _outcomes(host, models, jobs))

    busy = 0.0
    for job in jobs:
        busy = max(busy, job.at) + (1 + job.output) / 100.0  # a prompt is one token at least
    assert ends[-1] == pytest.approx(busy, abs=0.05)  # loads take a millisecond each


def test_a_measured_model_takes_what_was_measured() -> None:
    """Rates and the start of its runner, in place of what its size tells."""
    host = Host("gpu1", 0.5, 1, 1, 1e8, load_start=1.0, sharing=1.0)
    models = (Model("a", 2e8, prompt_rate=100.0, output_rate=20.0),)

    (outcome,) = _outcomes(host, models, (Job(0, 0.0, "a", 50, 30),))

    assert (outcome.first, outcome.total) == pytest.approx((3.0 + 1.0, 3.0 + 1.0 + 3.0))


def _outcomes(host: Host, models: tuple[Model, ...], jobs: tuple[Job, ...]) -> list[Outcome]:
    scenario = Scenario("one host", (host,), models, jobs)
    return simulate(scenario, lambda hosts: AtOnce(hosts, lambda up, _: up[0])).outcomes
