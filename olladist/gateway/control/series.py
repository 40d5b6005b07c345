"""What is counted for each exchange with a backend, in plain numbers, and handed to the registry when somebody asks.

The library's own counters take a lock and several calls each, which came to a third of what a small request costs the control
process; a collector of one's own is its way for that.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from olladist.gateway.control import families
from olladist.gateway.control.families import Family, Kind
from olladist.gateway.control.uses import Uses


class Histogram:
    """Counts by bucket, the last one without a bound; `sum` of all values."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, values: list[float]) -> None:
        counts, bounds = self.counts, self.bounds
        for value in values:
            counts[bisect_left(bounds, value)] += 1
        self.sum += sum(values)


class Tokens:
    """Of a model on a node, in one direction; `seconds` are those of answers that say them."""

    __slots__ = ("count", "seconds", "speed")

    def __init__(self, speed: Histogram) -> None:
        self.count = 0
        self.seconds = 0.0
        self.speed = speed

    def add(self, count: int, timed: list[tuple[int, float]]) -> None:
        """`timed` are the tokens and seconds of those that say both."""
        self.count += count
        self.seconds += sum([seconds for _, seconds in timed])
        self.speed.observe([tokens / seconds for tokens, seconds in timed])


class Exchanges:
    """Those of one route, model and node; `ends` are by outcome and status."""

    __slots__ = ("duration", "ends", "first_byte", "load", "output", "prompt")

    def __init__(
        self, first_byte: Histogram, duration: Histogram, load: Histogram, prompt: Tokens, output: Tokens
    ) -> None:
        self.first_byte = first_byte
        self.duration = duration
        self.load = load
        self.prompt = prompt
        self.output = output
        self.ends: dict[tuple[str, str], int] = {}

    def count(self, outcome: str, status: str, uses: Uses) -> None:
        end = outcome, status
        self.ends[end] = self.ends.get(end, 0) + uses.requests
        self.first_byte.observe(uses.first_bytes)
        if outcome == "served":
            self.duration.observe(uses.durations)
        self.prompt.add(uses.prompt_tokens, uses.prompts)
        self.output.add(uses.output_tokens, uses.outputs)
        self.load.observe(uses.loads)


class OfKey:
    """What an API key has asked for."""

    __slots__ = ("output", "prompt", "requests")

    def __init__(self) -> None:
        self.requests = self.prompt = self.output = 0


class Series(Collector):
    """All of them, by their labels; what several exchanges have in common is one and the same."""

    def __init__(self) -> None:
        self._exchanges: dict[tuple[str, str, str], Exchanges] = {}
        self._histograms: dict[Family, dict[tuple[str, ...], Histogram]] = {}
        self._tokens: dict[tuple[str, str, str], Tokens] = {}
        self._keys: dict[str, OfKey] = {}

    def exchanges(self, route: str, model: str, node: str) -> Exchanges:
        found = self._exchanges.get((route, model, node))
        if found is None:
            found = self._exchanges[route, model, node] = Exchanges(
                self._histogram(families.FIRST_BYTE, route, model),
                self._histogram(families.DURATION, route, model),
                self._histogram(families.LOAD, model),
                self._of_tokens(model, node, "prompt", families.PROMPT_SPEED),
                self._of_tokens(model, node, "output", families.OUTPUT_SPEED),
            )
        return found

    def of_key(self, key: str) -> OfKey:
        found = self._keys.get(key)
        if found is None:
            found = self._keys[key] = OfKey()
        return found

    def collect(self) -> Iterator[Metric]:
        """May run in another thread, so each table is copied before it is gone through."""
        ends = [((*labels, *end), n) for labels, each in [*self._exchanges.items()] for end, n in [*each.ends.items()]]
        yield metric(families.REQUESTS, ends)
        for family in (
            families.FIRST_BYTE,
            families.DURATION,
            families.LOAD,
            families.PROMPT_SPEED,
            families.OUTPUT_SPEED,
        ):
            yield _histograms(family, {**self._histograms.get(family, {})})
        tokens = [*self._tokens.items()]
        yield metric(families.TOKENS, ((labels, each.count) for labels, each in tokens))
        yield metric(families.TOKEN_SECONDS, ((labels, each.seconds) for labels, each in tokens))
        keys = [*self._keys.items()]
        yield metric(families.KEY_REQUESTS, (((key,), each.requests) for key, each in keys))
        yield metric(
            families.KEY_TOKENS,
            (((key, kind), n) for key, each in keys for kind, n in (("prompt", each.prompt), ("output", each.output))),
        )

    def _histogram(self, family: Family, *labels: str) -> Histogram:
        known = self._histograms.setdefault(family, {})
        if labels not in known:
            known[labels] = Histogram(family.buckets)
        return known[labels]

    def _of_tokens(self, model: str, node: str, kind: str, speed: Family) -> Tokens:
        labels = model, node, kind
        if labels not in self._tokens:
            self._tokens[labels] = Tokens(self._histogram(speed, model))
        return self._tokens[labels]


def metric(family: Family, samples: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    """A family of counters or gauges with its values."""
    kind = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
    made = kind(family.name, family.meaning, labels=family.labels)
    for labels, value in samples:
        made.add_metric(labels, float(value))
    return made


def _histograms(family: Family, values: Mapping[tuple[str, ...], Histogram]) -> Metric:
    made = HistogramMetricFamily(family.name, family.meaning, labels=family.labels)
    bounds = [*map(floatToGoString, family.buckets), "+Inf"]
    for labels, each in values.items():
        made.add_metric(labels, [*zip(bounds, accumulate(each.counts), strict=True)], each.sum)
    return made
