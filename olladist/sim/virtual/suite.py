"""Many scenarios at once: where a placement stands beside the best rule for each, whichever that is, and above the bound."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace

from olladist.sim.virtual.compare import compare, strategies
from olladist.sim.virtual.report import Spread, lower_bound
from olladist.sim.virtual.scenario import Shape, make

# By how much ours may be worse than a rule before it is said to be.
TOLERANCE = 1.05
# A p99 of 2 000 requests is twenty of them: where a rule seems better, so many times the samples tell whether it is.
AGAIN = 4
QUANTITIES = ("mean", "p95", "p99")


def shapes(requests: int = 2000) -> tuple[Shape, ...]:
    """From idle to overloaded, one model to fifty, one host to two hundred, equal and very unequal, in bursts, failing, talking."""
    mine: list[dict[str, object]] = [
        {"load": load, "models": models} for load in (0.1, 0.3, 0.5, 0.7, 0.9, 1.2) for models in (1, 4, 12, 50)
    ]
    mine += [{"load": 0.6, "hosts": hosts, "models": models} for hosts in (1, 2, 3, 30) for models in (1, 3, 12)]
    mine += [{"load": 0.6, "hosts": 200, "models": models} for models in (1, 12, 50)]
    mine += [{"load": load, "skew": skew} for skew in (0.0, 0.5, 2.0) for load in (0.4, 0.8)]
    mine += [{"load": 0.5, "burst": burst, "models": models} for burst in (5.0, 20.0) for models in (3, 12)]
    mine += [{"load": 0.5, "failing": 0.25, "models": models} for models in (3, 12)]
    mine += [{"load": load, "turns": 6.0, "models": models} for load, models in ((0.2, 2), (0.5, 2), (0.5, 12))]
    mine += [{"load": 0.5, "speeds": (1.0,), "models": models} for models in (2, 12)]
    mine += [{"load": 0.5, "slots": slots} for slots in (1, 8)]
    mine += [{"load": load, "models_max": 1, "models": models} for load, models in ((0.5, 4), (0.3, 12))]
    mine += [{"load": 0.6, "models_max": 4, "models": 20}]
    mine += [{"load": load, "sharing": 0.2, "models": models} for load in (0.2, 0.6) for models in (2, 12)]
    mine += [{"load": load, "sharing": 0.2, "slots": 8, "speeds": (1.0,), "models": 2} for load in (0.2, 0.6)]
    return tuple(_shape(requests, each) for each in mine)


def _shape(requests: int, differs: dict[str, object]) -> Shape:
    """The ordinary one but for what differs. A fleet of hundreds needs more requests than it has slots to be warm once."""
    shape = replace(Shape(requests=requests), **differs)  # type: ignore[arg-type]  # fields by name
    return replace(shape, name=_name(differs), requests=max(requests, requests * shape.hosts // 50))


def _name(differs: dict[str, object]) -> str:
    words = {"models_max": "in memory", "speeds": "speeds"}
    return ", ".join(f"{words.get(field, field)} {_value(value)}" for field, value in differs.items())


def _value(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


@dataclass(frozen=True, slots=True)
class Sample:
    """One fleet of a shape. Seconds to the first token; `rules` has each by its name, `decision` are seconds of a process for one request."""

    ours: Spread
    bound: Spread
    rules: dict[str, Spread]
    loads: float
    decision: float


@dataclass(frozen=True, slots=True)
class Compared:
    """Means over the samples."""

    shape: Shape
    ours: Spread
    bound: Spread
    rules: dict[str, Spread]
    loads: float
    decision: float
    samples: int

    def best(self, quantity: str) -> tuple[str, float]:
        """The rule that is best in this, and what it has."""
        name = min(self.rules, key=lambda each: float(getattr(self.rules[each], quantity)))
        return name, getattr(self.rules[name], quantity)

    @property
    def worse_in(self) -> tuple[str, ...]:
        """Where a rule is better by more than is tolerated."""
        return tuple(q for q in QUANTITIES if getattr(self.ours, q) > TOLERANCE * self.best(q)[1])


def run(chosen: Sequence[Shape], seeds: range) -> Iterator[Compared]:
    """Each shape once, as they are done: on all cores, and those where a rule seems better last, with AGAIN times the samples."""
    # Not forked: who calls may have threads.
    pool = ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn"))
    try:
        doubtful = []
        for shape, begun in [(shape, _begin(pool, shape, seeds)) for shape in chosen]:
            samples = [each.result() for each in begun]
            compared = mean(shape, samples)
            if compared.worse_in:
                more = range(seeds.stop, seeds.start + AGAIN * len(seeds))
                doubtful.append((shape, samples, _begin(pool, shape, more)))
            else:
                yield compared
        for shape, samples, begun in doubtful:
            yield mean(shape, [*samples, *(each.result() for each in begun)])
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(pool: ProcessPoolExecutor, shape: Shape, seeds: range) -> list[Future[Sample]]:
    return [pool.submit(sample, shape, seed) for seed in seeds]


def sample(shape: Shape, seed: int) -> Sample:
    """The fleet of this seed under every placement."""
    scenario = make(replace(shape, seed=seed))
    ours, *others = compare(scenario, strategies(), seed)
    rules = {result.strategy: result.figures.first for result in others}
    return Sample(ours.figures.first, lower_bound(scenario), rules, ours.figures.loads, ours.decision)


def mean(shape: Shape, samples: Sequence[Sample]) -> Compared:
    count = len(samples)
    return Compared(
        shape,
        ours=_mean([each.ours for each in samples]),
        bound=_mean([each.bound for each in samples]),
        rules={name: _mean([each.rules[name] for each in samples]) for name in samples[0].rules},
        loads=sum(each.loads for each in samples) / count,
        decision=sum(each.decision for each in samples) / count,
        samples=count,
    )


def _mean(spreads: Sequence[Spread]) -> Spread:
    return Spread(
        *(sum(getattr(each, name) for each in spreads) / len(spreads) for name in ("mean", "p50", "p95", "p99"))
    )
