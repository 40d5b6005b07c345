"""The simulator beside reality: traces on three real hosts under three strategies, and in virtual time on hosts that were measured.

What the simulated hosts are is taken from Ollama's own final chunks: a few requests to each host and model while nothing else runs. The
claim: the strategies come in the same order, and p50 and p95 are within TOLERANCE. Needs root and `tests/lab/prepare`.

A fleet under load is chaotic: who comes a hundredth of a second later finds another model loaded, and everything after it goes another way.
So all figures are over the requests of several traces, and the simulator sees each trace many times, disturbed as much as measurements
of the same thing differ.
"""

import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, NamedTuple

from bench.real_fleet import LOADED, MODELS, SLOTS, Fleet, fleet, prompt_of, replay
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
CALIBRATED = (3, 40, 80)  # times, tokens in, tokens out
# What answers of two requests at once take alone, in seconds, to see how much slower they are; tokens of their prompts.
PAIRED, PAIRED_PROMPT = 2.5, 12
# Seconds by which what is sent may be late.
LATE = 0.02


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
    real: Mapping[str, Figures]
    simulated: Mapping[str, Figures]
    noise: float


class Sample(NamedTuple):
    """One request on an idle host: seconds to load its model (0 where it was loaded), tokens per second in and out."""

    host: str
    model: str
    load: float
    prompt_rate: float
    output_rate: float


def _talk(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _figures(took: Sequence[Took], loads: float) -> Figures:
    return Figures(spread(each.first for each in took), spread(each.total for each in took), loads)


# Measuring the hosts.


def _measure(real: Fleet, host: str) -> list[Sample]:
    """Each model a few times: cold, then warm, then out of memory again."""
    real.unload(host)
    times, tokens, output = CALIBRATED
    samples = []
    numbers = count(900_000)
    for model in list(MODELS) * times:
        for keep in ("1h", 0):
            answer = real.ask(host, model, prompt_of(next(numbers), tokens), output, keep_alive=keep)
            nano = {name: answer[name] / 1e9 for name in ("load_duration", "prompt_eval_duration", "eval_duration")}
            load = nano["load_duration"] if keep else 0.0
            prompts = answer["prompt_eval_count"] / nano["prompt_eval_duration"]
            samples.append(Sample(host, model, load, prompts, answer["eval_count"] / nano["eval_duration"]))
        real.unload(host)
    return samples


def _together(real: Fleet, host: str, samples: Sequence[Sample]) -> float:
    """How much two requests slow each other down (sharing.py), in one runner and in two: from first to last, against what they take alone."""
    degrees = []
    for number, models in enumerate((("m1", "m2"), ("m1", "m1"), ("m2", "m2"), ("m1", "m2"))):
        rates = [_middle(samples, host, model) for model in models]
        outputs = [round(output * PAIRED) for _, output in rates]
        for model in models:
            real.ask(host, model, prompt_of(800_000 + number, PAIRED_PROMPT), 2)  # it is loaded
        prompts = [prompt_of(810_000 + 2 * number + place, PAIRED_PROMPT) for place in (0, 1)]
        with ThreadPoolExecutor(2) as threads:
            begin = time.monotonic()
            list(threads.map(partial(real.ask, host), models, prompts, outputs))
            took = time.monotonic() - begin
        alone = sum(
            PAIRED_PROMPT / prompt + tokens / output for (prompt, output), tokens in zip(rates, outputs, strict=True)
        )
        degrees.append(2.0 * took / alone - 1.0)
    real.unload(host)
    return float(statistics.median(degrees))


class Measured(NamedTuple):
    """`sharing` is by hosts."""

    samples: list[Sample]
    sharing: dict[str, float]


def calibrate(real: Fleet) -> Measured:
    """All hosts at once, as they work later."""

    def measure(host: str) -> tuple[list[Sample], float]:
        samples = _measure(real, host)
        return samples, _together(real, host, samples)

    with ThreadPoolExecutor(len(real.hosts)) as threads:
        measured = list(threads.map(measure, real.hosts))
    return Measured(
        [sample for samples, _ in measured for sample in samples],
        {host: sharing for host, (_, sharing) in zip(real.hosts, measured, strict=True)},
    )


def noise(samples: Sequence[Sample]) -> float:
    """How far a measurement is from the median of its like: the root of the mean square, as a part of it."""
    squares = []
    for host, model in {(sample.host, sample.model) for sample in samples}:
        alike = [sample for sample in samples if (sample.host, sample.model) == (host, model)]
        for values in ([s.load for s in alike if s.load], [s.output_rate for s in alike]):
            middle = statistics.median(values)
            squares += [(value / middle - 1) ** 2 for value in values]
    return float(statistics.mean(squares) ** 0.5)


# What the simulator is told.


def described(measured: Measured, real: Fleet) -> tuple[tuple[Host, ...], dict[str, Model]]:
    """Hosts, and models by name; a model is called by its weights' digest, for Ollama lets go of the first by that."""
    samples = measured.samples
    first = samples[0].host
    rates = {(s.host, s.model): _middle(samples, s.host, s.model) for s in samples}
    hosts = []
    for host in real.hosts:
        speed = statistics.mean(rates[host, model][1] / rates[first, model][1] for model in MODELS)
        start, per_byte = _line([(real.sizes[s.model], s.load) for s in samples if s.host == host and s.load])
        hosts.append(Host(host, speed, SLOTS, LOADED, 1 / per_byte, start, measured.sharing[host]))
    models = {}
    for model in MODELS:
        prompt, output = (statistics.mean(rates[h.name, model][i] / h.speed for h in hosts) for i in (0, 1))
        models[model] = Model(real.digests[model], real.sizes[model], prompt, output)
    return tuple(hosts), models


def _middle(samples: Sequence[Sample], host: str, model: str) -> tuple[float, float]:
    """(tokens per second in, out)."""
    alike = [sample for sample in samples if (sample.host, sample.model) == (host, model)]
    return statistics.median(s.prompt_rate for s in alike), statistics.median(s.output_rate for s in alike)


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """(where it begins, its slope): least squares."""
    slope, begin = statistics.linear_regression([x for x, _ in points], [y for _, y in points])
    return max(0.0, begin), slope


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
        worlds = [_world(strategy, _disturbed(hosts, models, jobs, noise, dice)) for jobs in traces]
        runs.append([Took(outcome.first, outcome.total) for world in worlds for outcome in world.outcomes])
        loads += sum(host.loads for world in worlds for host in world.hosts)
    slowest = [spread(took.first for took in run).p95 for run in runs]
    figures = _figures([took for run in runs for took in run], loads / len(traces) / REPEATS)
    return figures._replace(deviation=statistics.stdev(slowest) / statistics.mean(slowest))


def _world(strategy: str, scenario: Scenario) -> World[Any]:
    if strategy == "adaptive":
        return simulate(scenario, partial(Late, scenario=scenario))
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


def once(real: Fleet, strategy: str, jobs: Sequence[Job]) -> tuple[list[Took], int]:
    """What each request took, and how many loads there were."""
    with real.gateway(strategy) as url:
        before = sum(real.slow.loads.values())
        answers = asyncio.run(replay(url, jobs))
        return [Took(answer.first, answer.total) for answer in answers], sum(real.slow.loads.values()) - before


def run() -> Result:
    with fleet(HOSTS) as real:
        measured = calibrate(real)
        hosts, models = described(measured, real)
        differ = noise(measured.samples)
        _talk(f"measured, to {differ:.1%}: {json.dumps([hosts, tuple(models.values())])}")
        traces = [trace(seed, hosts, models) for seed in SEEDS]
        virtual = {strategy: in_virtual_time(strategy, hosts, models, traces, differ) for strategy in STRATEGIES}
        took: dict[str, list[Took]] = {strategy: [] for strategy in STRATEGIES}
        loads = dict.fromkeys(STRATEGIES, 0)
        for seed, jobs in zip(SEEDS, traces, strict=True):
            for strategy in STRATEGIES:
                more, loaded = once(real, strategy, jobs)
                took[strategy] += more
                loads[strategy] += loaded
                _talk(f"trace {seed}, {strategy}: {_told(_figures(more, loaded), virtual[strategy])}")
    return Result({each: _figures(took[each], loads[each] / len(traces)) for each in STRATEGIES}, virtual, differ)


def _told(real: Figures, virtual: Figures) -> str:
    """One trace, beside what all of them are in virtual time."""
    pairs = zip((*_seconds(real), real.loads), (*_seconds(virtual), virtual.loads), strict=True)
    return "p50 and p95 to the first token, to the last, loads: " + "; ".join(f"{a:.1f} ({b:.1f})" for a, b in pairs)


def _seconds(figures: Figures) -> tuple[float, ...]:
    return figures.first.p50, figures.first.p95, figures.total.p50, figures.total.p95


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
    return found


def table(result: Result) -> str:
    rows = ["| seconds | | p50 | p95 | mean | loads |", "|---|---|---|---|---|---|"]
    for what, words in (("first", "to the first token"), ("total", "to the last token")):
        for strategy in STRATEGIES:
            real, virtual = result.real[strategy], result.simulated[strategy]
            pairs = [
                (getattr(getattr(real, what), part), getattr(getattr(virtual, what), part))
                for part in ("p50", "p95", "mean")
            ]
            cells = [_cell(*pair, digits=1) for pair in [*pairs]] + [_cell(real.loads, virtual.loads, digits=0)]
            rows.append(f"| {strategy} | {words} | {' | '.join(cells)} |")
    rows.append(
        f"\nEach cell: real, simulated, difference. Measurements of the same thing differ by {result.noise:.1%}."
    )
    chance = ", ".join(f"{strategy} {result.simulated[strategy].deviation:.0%}" for strategy in STRATEGIES)
    rows.append(f"One run's p95 to the first token deviates in virtual time by: {chance}.")
    wrong = problems(result)
    rows.append("\nThe claim holds." if not wrong else "\nThe claim does not hold:\n- " + "\n- ".join(wrong))
    return "\n".join(rows)


def _cell(real: float, simulated: float, digits: int) -> str:
    return f"{real:.{digits}f}, {simulated:.{digits}f}, {simulated / real - 1:+.0%}"


def claimed() -> str:
    """The table of a run. Disproved where the claim does not hold."""
    result = run()
    if problems(result):
        raise Disproved(table(result))
    return table(result)
