"""What the simulator is told of real hosts, and what is said of how near it comes."""

from pathlib import Path

import pytest

from bench.placement import SEEDS, STRATEGIES, WAY, Figures, Result, differences, judged, pace, problems, table, trace
from bench.real_fleet import LOADED, MODELS, SLOTS, Account, Answer
from bench.records import Record, Run
from olladist.sim.virtual.report import Spread
from olladist.sim.virtual.scenario import Host, Job, Model, seconds_of
from tests.bench.test_calibration import measured

HOSTS = tuple(Host(f"gpu{n}", speed, SLOTS, LOADED, 2e7, sharing=1.0) for n, speed in enumerate((1.0, 0.5)))
NAMED = {name: Model(f"sha256:{name}", 4e7, 100.0, 40.0) for name in MODELS}


def test_a_trace_is_the_same_each_time_and_keeps_the_hosts_as_busy_as_it_shall() -> None:
    """What all of it takes alone, over its length and the speeds of the hosts, is the load: within what 200 dice leave open."""
    jobs = trace(SEEDS[0], HOSTS, NAMED)

    work = sum(sum(seconds_of(HOSTS[0], NAMED[job.model], job.prompt, job.output)) for job in jobs)
    assert jobs == trace(SEEDS[0], HOSTS, NAMED)
    assert jobs != trace(SEEDS[1], HOSTS, NAMED)
    assert work / jobs[-1].at / 1.5 == pytest.approx(0.7, rel=0.2)


def answer(number: int, first: float, total: float, node: str = "gpu0") -> Answer:
    """Of 100 tokens in, which take a second on gpu0 when it is alone and half as fast here."""
    return Answer(number, node, first, total, Account(0.0, 2.0 - WAY, total - first, total))


def test_the_pace_of_a_run_is_the_work_of_its_hosts_while_they_had_any() -> None:
    """Two requests at once, a second in and one out each alone, took 8 s: half the pace. Waiting before the first one is no work."""
    jobs = [Job(0, 0.0, "m1", 100, 40), Job(1, 0.0, "m1", 100, 40)]
    run = Run(1, "adaptive", 1, jobs, [answer(0, 12.0, 18.0), answer(1, 16.0, 18.0)])

    assert pace(run, HOSTS, NAMED) == pytest.approx(4.0 / 8.0)


def test_the_pace_is_one_where_hosts_are_as_they_were_measured() -> None:
    """Each by its own speed, and gaps between requests count for nothing."""
    jobs = [Job(0, 0.0, "m1", 200, 40), Job(1, 100.0, "m1", 100, 0)]
    run = Run(1, "adaptive", 1, jobs, [answer(0, 2.0, 3.0), answer(1, 2.0, 2.0, node="gpu1")])

    assert pace(run, HOSTS, NAMED) == pytest.approx(1.0)


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


def record(path: Path, *runs: tuple[int, str]) -> Record:
    """Of one request each, which took 2.8 and 4.8 s, as it does where nothing is slower."""
    made = Record(path)
    made.write(measured())
    for seed, strategy in runs:
        answers = [Answer(0, "gpu0", 2.8, 4.8, Account(2.5, 0.34 - WAY, 2.0, 4.8))]
        made.write(Run(seed, strategy, 1, [Job(0, 0.0, "m1", 30, 50)], answers))
    return made


def test_a_record_is_judged_by_the_traces_that_are_whole(tmp_path: Path) -> None:
    """The same jobs in virtual time; a run that is missing is a problem, whatever the others say."""
    first, second, third = SEEDS
    runs = [(seed, strategy) for seed in (first, second) for strategy in STRATEGIES]
    result = judged(record(tmp_path / "record", *runs, (third, "adaptive")))

    assert result.real["least-loaded"].first.p50 == result.simulated["least-loaded"].first.p50 == pytest.approx(2.8)
    assert result.missing == ((third, "round-robin"), (third, "least-loaded"))
    assert f"trace {third} was not run under least-loaded" in problems(result)
