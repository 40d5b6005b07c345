"""Many fleets at once: what they are, and what is said of them. `olladist simulate --suite` runs them all."""

from dataclasses import replace

import pytest

from olladist.sim.virtual.report import Spread
from olladist.sim.virtual.scenario import Shape
from olladist.sim.virtual.suite import AGAIN, Compared, mean, run, sample, shapes

# Those where rules come nearest to ours, of each kind one.
NEAR = (
    "load 0.1, models 12",
    "load 0.9, models 1",
    "load 0.6, hosts 1, models 1",
    "load 0.6, hosts 30, models 1",
    "load 0.4, skew 2.0",
    "load 0.5, burst 20.0, models 3",
    "load 0.5, failing 0.25, models 3",
    "load 0.2, turns 6.0, models 2",
    "load 0.5, speeds 1.0, models 2",
    "load 0.3, in memory 1, models 12",
)


def test_the_shapes_reach_from_idle_to_overloaded() -> None:
    """About sixty, each with a name of its own, over all that the target names."""
    all_of_them = shapes()

    assert len(all_of_them) == len({shape.name for shape in all_of_them}) >= 60
    assert (min(s.load for s in all_of_them), max(s.load for s in all_of_them)) == (0.1, 1.2)
    assert (min(s.models for s in all_of_them), max(s.models for s in all_of_them)) == (1, 50)
    assert (min(s.hosts for s in all_of_them), max(s.hosts for s in all_of_them)) == (1, 200)
    assert (min(s.skew for s in all_of_them), max(s.skew for s in all_of_them)) == (0.0, 2.0)
    assert any(s.failing for s in all_of_them)
    assert any(s.turns > 1 for s in all_of_them)
    assert any(s.burst > 1 for s in all_of_them)


def test_a_fleet_of_hundreds_gets_requests_for_each_of_them() -> None:
    """With as few as the others it would only ever be seen while it loads."""
    for shape in shapes(1000):
        assert shape.requests == max(1000, 20 * shape.hosts)


@pytest.mark.parametrize("name", NEAR)
def test_no_rule_is_better_where_rules_do_well(name: str) -> None:
    """By more than 5 % in mean, p95 or p99, in the mean of a few samples: one alone is moved by a handful of long answers."""
    (shape,) = (replace(shape, requests=800) for shape in shapes() if shape.name == name)
    (compared,) = run([shape], range(1, 5))

    assert compared.worse_in == ()
    assert compared.ours.mean >= compared.bound.mean * 0.99


def test_where_a_rule_seems_better_more_samples_are_taken() -> None:
    """Those that were taken first count too, and such a fleet comes last; elsewhere a few are enough."""
    two, one = (
        next(replace(shape, requests=60) for shape in shapes() if shape.name == f"load 0.6, hosts {hosts}, models 1")
        for hosts in (2, 1)
    )
    assert mean(two, [sample(two, seed) for seed in (1, 2)]).worse_in

    compared = list(run([two, one], range(1, 3)))

    assert [(each.shape, each.samples) for each in compared] == [(one, 2), (two, 2 * AGAIN)]
    assert compared[1].ours == mean(two, [sample(two, seed) for seed in range(1, 2 * AGAIN + 1)]).ours


def test_what_is_worse_is_said() -> None:
    """Each quantity by itself, against whichever rule is best in it."""
    rules = {"a": Spread(1.0, 1.0, 2.0, 3.0), "b": Spread(2.0, 1.0, 1.0, 4.0)}
    compared = Compared(Shape(), Spread(1.04, 9.0, 1.06, 3.0), Spread(1, 1, 1, 1), rules, 0.0, 0.0, 1)

    assert (compared.best("mean"), compared.best("p95")) == (("a", 1.0), ("b", 1.0))
    assert compared.worse_in == ("p95",)
