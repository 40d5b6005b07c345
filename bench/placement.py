"""The simulator beside reality: traces on three real hosts under three strategies, and in virtual time on hosts that were measured.

What the simulated hosts are is what a client sees of idle ones (calibration.py). The claim: the strategies come in the same order, and p50 and p95 are
within TOLERANCE. Needs root and `tests/lab/prepare`.

A fleet under load is chaotic: who comes a hundredth of a second later finds another model loaded, and everything after it goes another way.
So all figures are over the requests of several traces, and the simulator sees each trace many times, disturbed as much as measurements
of the same thing differ.

What was measured is kept in a file as it comes (records.py), which can be judged again without a host.
"""

import asyncio
import math
import random
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bench import markdown
from bench.calibration import Measured, calibrate, described, noise
from bench.real_fleet import MODELS, MORE_TOKENS, Answer, Fleet, fleet, replay
from bench.records import Record, Run
from olladist.sim.virtual.late import Late
from olladist.sim.virtual.report import Spread, spread
from olladist.sim.virtual.rules import AtOnce, rules
from olladist.sim.virtual.scenario import Host, Job, Model, Scenario, seconds_of
from olladist.sim.virtual.world import World, simulate

HOSTS = ("gpu81", "gpu82", "gpu83")
STRATEGIES = ("round-robin", "least-loaded", "adaptive")
# A trace of each seed.
SEEDS = (1, 2, 3)
# How often the simulator sees each.
REPEATS = 30
# The part of what the hosts could do if every model were in every memory.
LOAD = 0.7
REQUESTS, SKEW = 200, 1.0
# Tokens: (median, deviation of the logarithm, least, most).
PROMPT, OUTPUT = (30, 0.6, 12, 100), (50, 0.7, 8, 240)
TOLERANCE = 0.25
# Seconds by which what is sent may be late.
LATE = 0.02
# Seconds that a request with a slot takes beside what Ollama accounts for, before its first token: 30 to 70 ms were measured.
WAY = 0.05
# No request waits so many seconds for its model but one for which it is loaded; such a one reads MORE_TOKENS that others find in a cache.
LOADED_FOR = 1.0


class Disproved(Exception):
    """The table of a run for which the claim does not hold."""


class Took(NamedTuple):
    """Seconds from when a request was to be asked until the first token and the last."""

    first: float
    total: float


class Figures(NamedTuple):
    """Seconds to the first token and to the last; how many times a model was loaded in a trace.

    `deviation` of the p95 to the first token, as a part of it, where all traces were seen several times: what chance alone makes of one run.
    """

    first: Spread
    total: Spread
    loads: float
    deviation: float = 0.0


@dataclass(frozen=True)
class Result:
    """`paces` are those of the runs, `missing` are the runs that a whole one has beside these: (seed, strategy)."""

    real: Mapping[str, Figures]
    simulated: Mapping[str, Figures]
    noise: float
    paces: Mapping[tuple[int, str], float] = field(default_factory=dict)
    missing: tuple[tuple[int, str], ...] = ()


def _talk(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _figures(took: Sequence[Took], loads: float) -> Figures:
    return Figures(spread(each.first for each in took), spread(each.total for each in took), loads)


def trace(seed: int, hosts: Sequence[Host], models: Mapping[str, Model]) -> tuple[Job, ...]:
    """Poisson arrivals, models by Zipf, so many that the hosts are as busy as LOAD says."""
    dice = random.Random(seed)
    popularity = [1 / (rank + 1) ** SKEW for rank in range(len(MODELS))]
    drawn = [
        (dice.choices(list(MODELS), popularity)[0], _tokens(PROMPT, dice), _tokens(OUTPUT, dice), dice.expovariate(1.0))
        for _ in range(REQUESTS)
    ]
    reference = hosts[0]._replace(speed=1.0)
    work = sum(sum(seconds_of(reference, models[model], prompt, output)) for model, prompt, output, _ in drawn)
    gap = work / REQUESTS / sum(host.speed for host in hosts) / LOAD
    now, jobs = 0.0, []
    for number, (model, prompt, output, pause) in enumerate(drawn):
        now += pause * gap
        jobs.append(Job(number, now, model, prompt, output))
    return tuple(jobs)


def _tokens(shape: tuple[int, float, int, int], dice: random.Random) -> int:
    median, deviation, least, most = shape
    return min(most, max(least, round(median * dice.lognormvariate(0.0, deviation))))


# In virtual time.


def in_virtual_time(
    strategy: str, hosts: Sequence[Host], models: Mapping[str, Model], traces: Sequence[Sequence[Job]], noise: float
) -> Figures:
    """Every trace REPEATS times."""
    dice = random.Random(strategy)
    runs: list[list[Took]] = []
    loads = 0
    for _ in range(REPEATS):
        worlds = [_world(strategy, _disturbed(hosts, models, jobs, noise, dice), dice) for jobs in traces]
        runs.append([Took(outcome.first, outcome.total) for world in worlds for outcome in world.outcomes])
        loads += sum(host.loads for world in worlds for host in world.hosts)
    slowest = [spread(took.first for took in run).p95 for run in runs]
    figures = _figures([took for run in runs for took in run], loads / len(traces) / REPEATS)
    return figures._replace(deviation=statistics.stdev(slowest) / statistics.mean(slowest))


def _world(strategy: str, scenario: Scenario, dice: random.Random) -> World[Any]:
    """A gateway takes the first of hosts that it knows nothing of, and which it hears of first is chance."""
    if strategy == "adaptive":
        return simulate(scenario, lambda hosts: Late(dice.sample(hosts, len(hosts)), scenario))
    return simulate(scenario, partial(AtOnce, rule=rules(1)[strategy]))


def _disturbed(
    hosts: Sequence[Host], models: Mapping[str, Model], jobs: Sequence[Job], noise: float, dice: random.Random
) -> Scenario:
    """Hosts a little faster or slower, requests a little later."""
    others = tuple(
        host._replace(speed=host.speed * dice.gauss(1, noise), load_rate=host.load_rate * dice.gauss(1, noise))
        for host in hosts
    )
    moved = sorted((job._replace(at=job.at + dice.uniform(0, LATE)) for job in jobs), key=lambda job: job.at)
    renamed = (job._replace(number=place, model=models[job.model].name) for place, job in enumerate(moved))
    return Scenario("placement", others, tuple(models.values()), tuple(renamed))


# Reality.


def once(real: Fleet, strategy: str, jobs: Sequence[Job]) -> tuple[list[Answer], int]:
    """What became of each request, and how many loads there were."""
    with real.gateway(strategy) as url:
        before = sum(real.slow.loads.values())
        answers = asyncio.run(replay(url, jobs))
        return answers, sum(real.slow.loads.values()) - before


def run(record: Record) -> None:
    """Each trace under each strategy; the hosts are measured before, between and after, for they are not the same for an hour."""
    with fleet(HOSTS) as real:
        hosts, models = described(_measured(real, record))
        for seed in SEEDS:
            jobs = trace(seed, hosts, models)
            for strategy in STRATEGIES:
                answers, loads = once(real, strategy, jobs)
                record.write(Run(seed, strategy, loads, jobs, answers))
                _talk(f"trace {seed}, {strategy}: {_told(_figures(_took(answers), loads))}")
            _measured(real, record)


def _measured(real: Fleet, record: Record) -> Measured:
    measured = calibrate(real)
    record.write(measured)
    hosts, models = described(measured)
    _talk(f"measured, to {noise(measured.samples):.1%}: {hosts}, {tuple(models.values())}")
    return measured


def _took(answers: Sequence[Answer]) -> list[Took]:
    return [Took(answer.first, answer.total) for answer in answers]


def _told(figures: Figures) -> str:
    first, total = figures.first, figures.total
    return f"to the first token p50 {first.p50:.1f} p95 {first.p95:.1f}, to the last {total.p50:.1f} {total.p95:.1f}, loads {figures.loads:.0f}"


def judged(record: Record) -> Result:
    """The traces that were run under all strategies, and the same in virtual time."""
    measured, runs = record.read()
    by_name = {(run.seed, run.strategy): run for run in runs}
    seeds = [seed for seed in SEEDS if all((seed, strategy) in by_name for strategy in STRATEGIES)]
    missing = tuple((seed, strategy) for seed in SEEDS for strategy in STRATEGIES if (seed, strategy) not in by_name)
    hosts, models = described(measured)
    differ = noise(measured.samples)
    traces = [by_name[seed, STRATEGIES[0]].jobs for seed in seeds]
    real, virtual = {}, {}
    for strategy in STRATEGIES:
        took = [each for seed in seeds for each in _took(by_name[seed, strategy].answers)]
        real[strategy] = _figures(took, sum(by_name[seed, strategy].loads for seed in seeds) / len(seeds))
        virtual[strategy] = in_virtual_time(strategy, hosts, models, traces, differ)
    paces = {key: pace(run, hosts, models) for key, run in by_name.items()}
    return Result(real, virtual, differ, paces, missing)


def pace(run: Run, hosts: Sequence[Host], models: Mapping[str, Model]) -> float:
    """Seconds of work that the hosts did in a second in which they had any: what all requests take alone, over the time in which one ran.

    1 where they were as fast as when they were measured. The simulator is not told: it shows whether a run was a fair one.
    """
    jobs = {job.number: job for job in run.jobs}
    work = busy = 0.0
    for host in hosts:
        spans = []
        for answer in (answer for answer in run.answers if answer.node == host.name):
            job = jobs[answer.number]
            fresh = MORE_TOKENS if answer.account.load > LOADED_FOR else 0
            work += sum(seconds_of(host, models[job.model], job.prompt + fresh, job.output))
            spans.append((job.at + answer.first - answer.account.prompt - WAY, job.at + answer.total))
        busy += _covered(spans)
    return work / busy


def _covered(spans: Sequence[tuple[float, float]]) -> float:
    """How long all of them together are, what overlaps counted once."""
    covered, until = 0.0, -math.inf
    for begin, end in sorted(spans):
        covered += max(0.0, end - max(begin, until))
        until = max(until, end)
    return covered


# The claim.


def differences(result: Result) -> dict[tuple[str, str, str], float]:
    """How far the simulator is off for each (strategy, "first" or "total", "p50" or "p95"), as a part of the real figure."""
    return {
        (strategy, what, part): getattr(getattr(result.simulated[strategy], what), part)
        / getattr(getattr(result.real[strategy], what), part)
        - 1
        for strategy in STRATEGIES
        for what in ("first", "total")
        for part in ("p50", "p95")
    }


def _order(figures: Mapping[str, Figures], what: str, part: str) -> list[str]:
    return sorted(STRATEGIES, key=lambda strategy: float(getattr(getattr(figures[strategy], what), part)))


def problems(result: Result) -> list[str]:
    """What the claim does not hold for."""
    found = [
        f"{strategy}, {part} to the {what} token: simulated {off:+.0%}"
        for (strategy, what, part), off in differences(result).items()
        if abs(off) > TOLERANCE
    ]
    for what in ("first", "total"):
        for part in ("mean", "p50", "p95"):
            orders = [_order(figures, what, part) for figures in (result.real, result.simulated)]
            if orders[0] != orders[1]:
                found.append(f"by {part} to the {what} token the order is {orders[0]}, simulated {orders[1]}")
    return found + [f"trace {seed} was not run under {strategy}" for seed, strategy in result.missing]


def table(result: Result) -> str:
    rows = []
    for what, words in (("first", "to the first token"), ("total", "to the last token")):
        for strategy in STRATEGIES:
            real, virtual = result.real[strategy], result.simulated[strategy]
            pairs = [
                (getattr(getattr(real, what), part), getattr(getattr(virtual, what), part))
                for part in ("p50", "p95", "mean")
            ]
            cells = [_cell(*pair, digits=1) for pair in pairs] + [_cell(real.loads, virtual.loads, digits=0)]
            rows.append([strategy, words, *cells])
    lines = [markdown.table(["seconds", "", "p50", "p95", "mean", "loads"], rows)]
    lines.append(
        f"\nEach cell: real, simulated, difference. Measurements of the same thing differ by {result.noise:.1%}."
    )
    paces = ", ".join(f"{seed} {strategy} {pace:.2f}" for (seed, strategy), pace in result.paces.items())
    lines.append(
        f"What the hosts did in a busy second of each run, in seconds of what they were measured to do: {paces}."
    )
    chance = ", ".join(f"{strategy} {result.simulated[strategy].deviation:.0%}" for strategy in STRATEGIES)
    lines.append(f"One run's p95 to the first token deviates in virtual time by: {chance}.")
    wrong = problems(result)
    lines.append("\nThe claim holds." if not wrong else "\nThe claim does not hold:\n- " + "\n- ".join(wrong))
    return "\n".join(lines)


def _cell(real: float, simulated: float, digits: int) -> str:
    return f"{real:.{digits}f}, {simulated:.{digits}f}, {simulated / real - 1:+.0%}"


def claimed(record: Path, *, again: bool) -> str:
    """The table of a run, kept in `record`; `again`: of the one that is there. Disproved where the claim does not hold."""
    kept = Record(record)
    if not again:
        _talk(f"what is measured is kept in {record}")
        run(kept)
    result = judged(kept)
    if problems(result):
        raise Disproved(table(result))
    return table(result)
