"""Whole simulations: nothing is lost in any of them, and late binding does what it is for."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olladist.sim.virtual.compare import ADAPTIVE, compare, strategies
from olladist.sim.virtual.late import Late
from olladist.sim.virtual.report import jain, lower_bound, spread
from olladist.sim.virtual.rules import AtOnce, rules
from olladist.sim.virtual.scenario import Scenario, Shape, make
from olladist.sim.virtual.world import World, simulate

shapes = st.builds(
    Shape,
    hosts=st.integers(1, 6),
    models=st.integers(1, 6),
    load=st.floats(0.1, 1.5),
    skew=st.floats(0, 2),
    burst=st.floats(1, 10),
    turns=st.floats(1, 5),
    keys=st.integers(1, 3),
    failing=st.floats(0, 0.8),
    slots=st.integers(1, 4),
    models_max=st.integers(1, 3),
    requests=st.just(60),
    seed=st.integers(0, 100),
)


def late(scenario: Scenario) -> World[Late]:
    return simulate(scenario, lambda hosts: Late(hosts, scenario))


@settings(max_examples=60, deadline=None)
@given(shapes, st.sampled_from(strategies()))
def test_every_job_ends_once(shape: Shape, strategy: str) -> None:
    """Whatever fails meanwhile: answered, or cut after its first token; never before it came."""
    scenario = make(shape)
    if strategy == ADAPTIVE:
        outcomes = late(scenario).outcomes
    else:
        rule = rules(1)[strategy]
        outcomes = simulate(scenario, lambda hosts: AtOnce(hosts, rule)).outcomes

    assert sorted(outcome.job.number for outcome in outcomes) == [job.number for job in scenario.jobs]
    assert all(0 <= outcome.first <= outcome.total for outcome in outcomes)
    assert scenario.failures or not any(outcome.cut or outcome.tries > 1 for outcome in outcomes)


@settings(max_examples=30, deadline=None)
@given(shapes)
def test_late_binding_never_queues_at_a_host(shape: Shape) -> None:
    """Each request runs, or loads its model, from the moment it is bound: no host has more than its slots."""
    scenario = make(shape)
    most: dict[tuple[int, str], int] = {}

    class Watching(Late):
        def started(self, job, host, load, now):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  as the original
            most[host.number, job.model] = max(most.get((host.number, job.model), 0), host.by_model[job.model])
            return super().started(job, host, load, now)

    simulate(scenario, lambda hosts: Watching(hosts, scenario))

    assert all(count <= shape.slots for count in most.values())


def test_models_that_do_not_fit_everywhere_wait_a_twentieth() -> None:
    """Eight hosts of three speeds, 12 models by Zipf, two in memory each, 80 % load: p95 to the first token against the best rule.

    Under the rules the queues grow for as long as the load lasts, so the ratio does too.
    """
    results = {result.strategy: result.figures for result in compare(make(Shape(requests=4000)), strategies())}
    best = min(figures.first.p95 for name, figures in results.items() if name != ADAPTIVE)

    assert results[ADAPTIVE].first.p95 <= best / 20
    assert results[ADAPTIVE].loads < min(f.loads for name, f in results.items() if name != ADAPTIVE) / 2


@pytest.mark.parametrize(
    "shape",
    [
        Shape(models=4, requests=1500),
        Shape(models=1, load=0.5, requests=1500),
        Shape(load=0.3, requests=1500),
        Shape(hosts=30, models=3, load=0.6, requests=1500),
        Shape(burst=20.0, load=0.5, models=3, requests=1500),
        Shape(failing=0.25, load=0.5, models=3, requests=1500),
        Shape(turns=6.0, load=0.5, models=2, requests=1500),
        Shape(load=1.2, models=4, requests=1500),
    ],
    ids=lambda shape: f"{shape.hosts} hosts, {shape.models} models, load {shape.load}",
)
def test_it_is_never_worse_than_a_rule(shape: Shape) -> None:
    """By more than 5 % in mean, p95 or p99 of the time to the first token, where rules do well too."""
    results = {result.strategy: result.figures.first for result in compare(make(shape), strategies())}
    ours = results.pop(ADAPTIVE)

    for what in ("mean", "p95", "p99"):
        assert getattr(ours, what) <= 1.05 * min(getattr(each, what) for each in results.values()), what


def test_the_bound_is_below_everything() -> None:
    """With all models warm everywhere and one pool of slots nobody waits longer."""
    scenario = make(Shape(requests=800))

    assert lower_bound(scenario).p95 < min(result.figures.first.p95 for result in compare(scenario, strategies()))


def test_a_simulation_can_be_repeated() -> None:
    """The same seed gives the same figures, dice and all."""
    scenario = make(Shape(requests=300))
    first, second = ([r.figures for r in compare(scenario, strategies(), seed=3)] for _ in range(2))

    assert first == second


def test_percentiles_are_by_nearest_rank() -> None:
    """Of a hundred numbers the 95th is the 95th."""
    assert spread(range(100)) == (spread(reversed(range(100))))
    assert (spread(range(100)).p50, spread(range(100)).p95) == (50, 95)
    assert spread([]).p99 == 0.0


def test_fairness_is_one_where_all_wait_the_same() -> None:
    """And 1/n where one has it all."""
    assert jain([2, 2, 2]) == pytest.approx(1.0)
    assert jain([5, 0, 0, 0]) == pytest.approx(0.25)
    assert jain([]) == 1.0
