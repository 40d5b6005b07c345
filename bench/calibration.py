"""What the simulator is told of real hosts: how long their answers and loads take, seen by a client while nothing else runs there.

By the client's clock and not by Ollama's final chunks, which leave out a part: what a token costs beside its evaluation (sampling it, sending it), and
the way in and out. That is 5 % of a request, and in a queue each that waits waits for all of it. A load is what a cold request waits longer for its first
token than a warm one: the first prompt is slower, for the tokens that all of them begin with (real_fleet.MORE_TOKENS) are in no cache yet.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from typing import NamedTuple

from bench.real_fleet import LOADED, MODELS, SLOTS, Fleet, prompt_of
from olladist.sim.virtual.scenario import Host, Model

# Tokens in and out of each model's warm requests, and of its cold one. Of these lengths are a trace's: its short ones, its middling ones and its
# long ones, for a token of a long prompt costs more.
PROMPTS, OUTPUT = (14, 30, 65), 50
MIDDLING, COLD_OUTPUT = 30, 8
# Two middling requests at once show how much slower they are than alone: in two runners as often as in one.
PAIRS = (("m1", "m2"), ("m1", "m1"), ("m1", "m2"), ("m2", "m2"))


class Sample(NamedTuple):
    """One request on an idle host: tokens, seconds until its first token, and from there to its last."""

    host: str
    model: str
    cold: bool
    prompt: int
    output: int
    first: float
    rest: float


class Rates(NamedTuple):
    """Tokens per second, in and out."""

    prompt: float
    output: float


class Pair(NamedTuple):
    """Two middling requests at once: seconds until both were answered."""

    host: str
    models: tuple[str, str]
    took: float


class Measured(NamedTuple):
    """`sizes` in bytes and `digests` of the weights are by models."""

    samples: list[Sample]
    pairs: list[Pair]
    sizes: Mapping[str, int]
    digests: Mapping[str, str]


def calibrate(real: Fleet) -> Measured:
    """All hosts at once, as they work later."""

    def measure(host: str) -> tuple[list[Sample], list[Pair]]:
        return _alone(real, host), _together(real, host)

    with ThreadPoolExecutor(len(real.hosts)) as threads:
        measured = list(threads.map(measure, real.hosts))
    samples = [sample for samples, _ in measured for sample in samples]
    return Measured(samples, [pair for _, pairs in measured for pair in pairs], real.sizes, real.digests)


def merged(rounds: Sequence[Measured]) -> Measured:
    """As one, of the same hosts and models."""
    samples = [sample for each in rounds for sample in each.samples]
    return rounds[0]._replace(samples=samples, pairs=[pair for each in rounds for pair in each.pairs])


def _alone(real: Fleet, host: str) -> list[Sample]:
    """Each model cold, then warm, then out of memory again."""
    real.unload(host)
    samples = []
    numbers = count(900_000)
    for model in MODELS:
        for cold, tokens, output in (
            (True, MIDDLING, COLD_OUTPUT),
            *((False, tokens, OUTPUT) for tokens in PROMPTS),
        ):
            answer = real.ask(host, model, prompt_of(next(numbers), tokens), output)
            samples.append(Sample(host, model, cold, tokens, output, answer.first, answer.total - answer.first))
        real.unload(host)
    return samples


def _together(real: Fleet, host: str) -> list[Pair]:
    """In two runners and in one."""
    for model in sorted({model for pair in PAIRS for model in pair}):
        real.ask(host, model, prompt_of(800_000, MIDDLING), COLD_OUTPUT)  # it is loaded
    pairs = []
    for number, models in enumerate(PAIRS):
        prompts = [prompt_of(810_000 + 2 * number + place, MIDDLING) for place in (0, 1)]
        with ThreadPoolExecutor(2) as threads:
            begin = time.monotonic()
            list(threads.map(partial(real.ask, host), models, prompts, (OUTPUT, OUTPUT)))
            pairs.append(Pair(host, models, time.monotonic() - begin))
    real.unload(host)
    return pairs


# What is made of it. Means all over: what is slow at times is so in the traces too.


def sharing_of(measured: Measured, host: str) -> float:
    """How much requests slow each other down (sharing.py): from first to last, against what they take alone."""
    degrees = []
    for pair in measured.pairs:
        if pair.host == host:
            alone = [_middling(measured.samples, host, model) for model in pair.models]
            degrees.append(2.0 * pair.took / sum(each.first + each.rest for each in alone) - 1.0)
    return statistics.mean(degrees)


def _middling(samples: Sequence[Sample], host: str, model: str) -> Sample:
    """One of the middling length, warm, that takes what they take in the mean."""
    warm = [sample for sample in _alike(samples, host, model) if not sample.cold and sample.prompt == MIDDLING]
    first, rest = statistics.mean(sample.first for sample in warm), statistics.mean(sample.rest for sample in warm)
    return warm[0]._replace(first=first, rest=rest)


def rates_of(samples: Sequence[Sample], host: str, model: str) -> Rates:
    """Of requests to a loaded model: tokens over the seconds of all of them, so that long ones count for more, as they do in a queue."""
    warm = [sample for sample in _alike(samples, host, model) if not sample.cold]
    prompt = sum(sample.prompt for sample in warm) / sum(sample.first for sample in warm)
    return Rates(prompt, sum(sample.output for sample in warm) / sum(sample.rest for sample in warm))


def loads_of(samples: Sequence[Sample], host: str, model: str) -> list[float]:
    """By how much each cold request waited longer for its first token than a warm one of the same length does."""
    warm = _middling(samples, host, model)
    return [sample.first - warm.first for sample in _alike(samples, host, model) if sample.cold]


def noise(samples: Sequence[Sample]) -> float:
    """How far a measurement is from the median of its like: the root of the mean square, as a part of it."""
    squares = []
    for host, model in {(sample.host, sample.model) for sample in samples}:
        warm = [sample for sample in _alike(samples, host, model) if not sample.cold]
        for values in (loads_of(samples, host, model), [s.output / s.rest for s in warm]):
            middle = statistics.median(values)
            squares += [(value / middle - 1) ** 2 for value in values]
    return float(statistics.mean(squares) ** 0.5)


def _alike(samples: Sequence[Sample], host: str, model: str) -> list[Sample]:
    return [sample for sample in samples if (sample.host, sample.model) == (host, model)]


def described(measured: Measured) -> tuple[tuple[Host, ...], dict[str, Model]]:
    """Hosts, and models by name; a model is called by its weights' digest, for Ollama lets go of the first by that."""
    samples, sizes = measured.samples, measured.sizes
    names = list(dict.fromkeys(sample.host for sample in samples))
    rates = {(host, model): rates_of(samples, host, model) for host in names for model in MODELS}
    hosts = []
    for host in names:
        speed = statistics.mean(rates[host, model].output / rates[names[0], model].output for model in MODELS)
        loads = [(sizes[model], load) for model in MODELS for load in loads_of(samples, host, model)]
        start, per_byte = _line(loads)
        hosts.append(Host(host, speed, SLOTS, LOADED, 1 / per_byte, start, sharing_of(measured, host)))
    models = {}
    for model in MODELS:
        prompt, output = (statistics.mean(rates[h.name, model][i] / h.speed for h in hosts) for i in (0, 1))
        models[model] = Model(measured.digests[model], sizes[model], prompt, output)
    return tuple(hosts), models


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """(where it begins, its slope): least squares."""
    slope, begin = statistics.linear_regression([x for x, _ in points], [y for _, y in points])
    return max(0.0, begin), slope
