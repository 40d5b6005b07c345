"""What the simulator is told of real hosts, and what is said of how near it comes."""

import pytest

from bench.placement import SEEDS, STRATEGIES, Figures, Result, Sample, differences, noise, problems, table, trace
from bench.real_fleet import LOADED, MODELS, SLOTS
from olladist.sim.virtual.report import Spread
from olladist.sim.virtual.scenario import Host, Model, seconds_of

HOSTS = tuple(Host(f"gpu{n}", speed, SLOTS, LOADED, 2e7, sharing=1.0) for n, speed in enumerate((1.0, 0.5)))
NAMED = {name: Model(f"sha256:{name}", 4e7, 100.0, 40.0) for name in MODELS}


def test_a_trace_is_the_same_each_time_and_keeps_the_hosts_as_busy_as_it_shall() -> None:
    """What all of it takes alone, over its length and the speeds of the hosts, is the load: within what 200 dice leave open."""
    jobs = trace(SEEDS[0], HOSTS, NAMED)

    work = sum(sum(seconds_of(HOSTS[0], NAMED[job.model], job.prompt, job.output)) for job in jobs)
    assert jobs == trace(SEEDS[0], HOSTS, NAMED)
    assert jobs != trace(SEEDS[1], HOSTS, NAMED)
    assert work / jobs[-1].at / 1.5 == pytest.approx(0.7, rel=0.2)


def test_noise_is_how_far_measurements_of_the_same_thing_differ() -> None:
    """Loads that took 1, 1 and 1.3 s, rates that were all the same."""
    samples = [Sample("gpu0", "m1", load, 100.0, 40.0) for load in (1.0, 1.0, 1.3)]

    assert noise(samples) == pytest.approx((0.3**2 / 6) ** 0.5)


def figures(first: float, total: float, loads: float = 10.0) -> Figures:
    return Figures(Spread(first, first, 2 * first, 3 * first), Spread(total, total, 2 * total, 3 * total), loads)


def result(**simulated: Figures) -> Result:
    real = {name: figures(1.0 + place, 5.0 + place) for place, name in enumerate(reversed(STRATEGIES))}
    return Result(real, real | {name.replace("_", "-"): each for name, each in simulated.items()}, 0.03)


def test_a_simulation_that_comes_near_has_no_problems() -> None:
    """A fifth off is near enough; the table says that the claim holds."""
    near = result(adaptive=figures(0.8, 5.5))

    assert problems(near) == []
    assert differences(near)["adaptive", "first", "p50"] == pytest.approx(-0.2)
    assert "The claim holds." in table(near)
    assert "| adaptive | to the first token | 1.0, 0.8, -20% |" in table(near)


def test_a_simulation_that_is_far_off_or_in_another_order_is_said_so() -> None:
    """Each figure that is off, and each order that is another."""
    off = result(adaptive=figures(1.3, 5.0), round_robin=figures(1.9, 7.0))

    found = problems(off)
    assert "adaptive, p50 to the first token: simulated +30%" in found
    assert any(problem.startswith("by mean to the first token the order is") for problem in found)
    assert "The claim does not hold" in table(off)
