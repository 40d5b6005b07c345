"""A fleet and what comes to it, as values: made from a few numbers and a seed, or read from a trace."""

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

GB = 1e9
# An ordinary mix, taken from the shape of public traces (Azure LLM inference 2023, conversation): medians of some hundred tokens
# in and of over a hundred out, with long tails. (mean of the logarithm, its deviation, bound)
PROMPT = (6.0, 1.0, 8000)
OUTPUT = (4.8, 0.9, 2000)
# What a GPU of speed 1 does with an 8 GB model, in each slot; twice the size has half of it.
PROMPT_RATE, OUTPUT_RATE, REFERENCE = 1500.0, 40.0, 8 * GB
LOAD_RATE = 1.5 * GB


class Host(NamedTuple):
    """`speed` 1 is a middling GPU; `slots` for each of at most `models_max` models in memory; `load_rate` in bytes per second.

    `load_start` are the seconds that a runner needs before it reads a byte. `sharing` is how much requests slow each other down (sharing.py).
    """

    name: str
    speed: float
    slots: int
    models_max: int
    load_rate: float
    load_start: float = 0.0
    sharing: float = 0.0


class Model(NamedTuple):
    """`size` in bytes. The rates are tokens per second on a host of speed 1, where they were measured; 0 where its size tells them."""

    name: str
    size: float
    prompt_rate: float = 0.0
    output_rate: float = 0.0


class Job(NamedTuple):
    """A request: `prefix` tokens of its prompt are the conversation so far, which a slot may still have in its cache."""

    number: int
    at: float
    model: str
    prompt: int
    output: int
    key: str = ""
    conversation: int = 0
    prefix: int = 0


class Failure(NamedTuple):
    """The host has no power from `at` on, for `seconds`."""

    at: float
    host: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    hosts: tuple[Host, ...]
    models: tuple[Model, ...]
    jobs: tuple[Job, ...]
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers that a scenario is made from.

    `load` is what comes, as a part of what all slots could do if every model were in all memories. `skew` is Zipf's exponent. `burst` is how
    many come at once, in the mean. `turns` is the mean length of a conversation. `sharing` is that of the hosts.
    """

    name: str = "fleet"
    hosts: int = 8
    models: int = 12
    load: float = 0.8
    skew: float = 1.0
    requests: int = 3000
    slots: int = 2
    models_max: int = 2
    speeds: tuple[float, ...] = (1.0, 0.6, 0.35)
    sizes: tuple[float, float] = (4 * GB, 25 * GB)
    sharing: float = 0.0
    burst: float = 1.0
    turns: float = 1.0
    keys: int = 1
    failing: float = 0.0  # part of the hosts that lose their power once
    seed: int = 1


def make(shape: Shape) -> Scenario:
    """The same shape gives the same scenario."""
    dice = random.Random(shape.seed)  # noqa: S311  a simulation, to be repeated
    hosts = tuple(_host(number, shape) for number in range(shape.hosts))
    models = tuple(Model(f"m{number}", dice.uniform(*shape.sizes)) for number in range(shape.models))
    popularity = [1 / (rank + 1) ** shape.skew for rank in range(shape.models)]
    rate = shape.load * _possible(hosts, models, popularity, dice)
    jobs = tuple(_jobs(shape, models, popularity, rate, dice))
    failing = dice.sample(range(shape.hosts), round(shape.failing * shape.hosts))
    last = jobs[-1].at
    failures = tuple(Failure(dice.uniform(0.1, 0.7) * last, host, 0.1 * last) for host in sorted(failing))
    return Scenario(shape.name, hosts, models, jobs, failures)


def replayed(shape: Shape, jobs: tuple[Job, ...]) -> Scenario:
    """The hosts of `shape` and the requests of a trace, whose models get sizes by the seed."""
    dice = random.Random(shape.seed)  # noqa: S311  a simulation, to be repeated
    names = sorted({job.model for job in jobs})
    hosts = tuple(_host(number, shape) for number in range(shape.hosts))
    return Scenario("trace", hosts, tuple(Model(name, dice.uniform(*shape.sizes)) for name in names), jobs)


def seconds_of(host: Host, model: Model, prompt: float, output: float) -> tuple[float, float]:
    """(until the first token, from then to the end) for a request that has a slot."""
    factor = host.speed * REFERENCE / model.size
    prompts = model.prompt_rate * host.speed or PROMPT_RATE * factor
    outputs = model.output_rate * host.speed or OUTPUT_RATE * factor
    return prompt / prompts, output / outputs


def load_seconds(host: Host, model: Model) -> float:
    return host.load_start + model.size / host.load_rate


def _host(number: int, shape: Shape) -> Host:
    speed = shape.speeds[number % len(shape.speeds)]
    return Host(
        f"gpu{number + 1}", speed, shape.slots, shape.models_max, LOAD_RATE * (0.5 + speed / 2), sharing=shape.sharing
    )


def _lengths(dice: random.Random) -> tuple[int, int]:
    return tuple(min(most, max(1, int(dice.lognormvariate(mean, spread)))) for mean, spread, most in (PROMPT, OUTPUT))  # type: ignore[return-value]  # two of them


def _possible(
    hosts: Sequence[Host], models: Sequence[Model], popularity: Sequence[float], dice: random.Random
) -> float:
    """Requests per second that all slots together could serve."""
    samples = 2000
    drawn = dice.choices(models, popularity, k=samples)
    reference = Host("", 1.0, 1, 1, LOAD_RATE)
    mean = sum(sum(seconds_of(reference, model, *_lengths(dice))) for model in drawn) / samples
    return sum(host.speed * _at_once(host.slots * min(host.models_max, len(models)), host) for host in hosts) / mean


def _at_once(slots: int, host: Host) -> float:
    """How many requests alone are as much as those in all slots, which slow each other down."""
    return slots / (1.0 + host.sharing * (slots - 1))


def _jobs(
    shape: Shape, models: Sequence[Model], popularity: Sequence[float], rate: float, dice: random.Random
) -> Iterator[Job]:
    """In the order of their times. A conversation's next turn comes after time to read and write."""
    now, number, conversation = 0.0, 0, 0
    made: list[Job] = []
    while len(made) < shape.requests:
        now += dice.expovariate(rate / shape.burst / shape.turns)
        for _ in range(max(1, round(dice.expovariate(1 / shape.burst))) if shape.burst > 1 else 1):
            conversation += 1
            model = dice.choices(models, popularity)[0].name
            key = f"key{dice.randrange(shape.keys)}" if shape.keys > 1 else ""
            at, prefix = now, 0
            for _ in range(_turns(shape.turns, dice)):
                prompt, output = _lengths(dice)
                made.append(Job(number, at, model, min(prefix + prompt, PROMPT[2]), output, key, conversation, prefix))
                number += 1
                prefix = min(prefix + prompt + output, PROMPT[2])
                at += dice.expovariate(1 / 30) + 5.0 + output / OUTPUT_RATE
    made.sort(key=lambda job: job.at)
    yield from (job._replace(number=place) for place, job in enumerate(made[: shape.requests]))


def _turns(mean: float, dice: random.Random) -> int:
    """Geometric with this mean."""
    return 1 if mean <= 1 else 1 + int(math.log(1 - dice.random()) / math.log(1 - 1 / mean))


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    at: float
    model: str
    prompt: int
    output: int
    key: str = ""
    conversation: int = 0
    prefix: int = 0


def read_trace(lines: Iterable[bytes]) -> tuple[Job, ...]:
    """Jobs out of JSON lines {"at", "model", "prompt", "output"[, "key", "conversation", "prefix"]}; seconds and tokens.

    Raises ValueError with the number of the line.
    """
    jobs: list[_Line] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            job = msgspec.json.decode(line, type=_Line)
        except msgspec.MsgspecError as problem:
            raise ValueError(f"line {number}: {problem}") from problem
        if not (job.at >= 0 and job.prompt >= 0 and job.output >= 1 and 0 <= job.prefix <= job.prompt):
            raise ValueError(f"line {number}: `at` and `prompt` from 0, `output` from 1, `prefix` from 0 to `prompt`")
        jobs.append(job)
    jobs.sort(key=lambda job: job.at)
    return tuple(Job(n, j.at, j.model, j.prompt, j.output, j.key, j.conversation, j.prefix) for n, j in enumerate(jobs))
