"""The metrics that are counted as things happen; gauges.py has those that are read when somebody asks."""

from http import HTTPStatus
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.metrics import MetricWrapperBase, disable_created_metrics

from olladist.gateway.control import families
from olladist.gateway.control.families import Family
from olladist.gateway.lease import OUTCOMES, Done, Usage
from olladist.ollama.routes import ROUTES

OTHER = "other"
_ROUTES = frozenset(route.name for route in ROUTES)
_STATUSES = frozenset(int(status) for status in HTTPStatus)

# A third of all lines would say when each series began, which no query needs.
disable_created_metrics()  # type: ignore[no-untyped-call]  # it is so in the library

_Metric = TypeVar("_Metric", bound=MetricWrapperBase)


class _Exchanges:
    """The series of one route, model and node: looked up once, for `labels()` costs as much as all the counting.

    `ends` are by outcome and status.
    """

    __slots__ = (
        "duration", "ends", "first_byte", "load", "output", "output_seconds", "output_speed", "prompt", "prompt_seconds",
        "prompt_speed",
    )  # fmt: skip

    def __init__(self, metrics: "Metrics", route: str, model: str, node: str) -> None:
        self.ends: dict[tuple[str, int], Counter] = {}
        self.first_byte = metrics.first_byte.labels(route, model)
        self.duration = metrics.duration.labels(route, model)
        self.load = metrics.load.labels(model)
        self.output_speed = metrics.output_speed.labels(model)
        self.prompt_speed = metrics.prompt_speed.labels(model)
        self.prompt = metrics.tokens.labels(model, node, "prompt")
        self.output = metrics.tokens.labels(model, node, "output")
        self.prompt_seconds = metrics.token_seconds.labels(model, node, "prompt")
        self.output_seconds = metrics.token_seconds.labels(model, node, "output")


class Metrics:
    """Everything in a registry of its own, with the figures of this process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._make(Counter, families.REQUESTS)
        self.first_byte = self._make(Histogram, families.FIRST_BYTE)
        self.duration = self._make(Histogram, families.DURATION)
        self.retries = self._make(Counter, families.RETRIES)
        self.fallbacks = self._make(Counter, families.FALLBACKS)
        self.refusals = self._make(Counter, families.REFUSALS)
        self.tokens = self._make(Counter, families.TOKENS)
        self.token_seconds = self._make(Counter, families.TOKEN_SECONDS)
        self.output_speed = self._make(Histogram, families.OUTPUT_SPEED)
        self.prompt_speed = self._make(Histogram, families.PROMPT_SPEED)
        self.load = self._make(Histogram, families.LOAD)
        self.loads = self._make(Counter, families.LOADS)
        self.probes = self._make(Counter, families.PROBES)
        self.probe_failures = self._make(Counter, families.PROBE_FAILURES)
        self.kept_hits = self._make(Counter, families.KEPT_HITS)
        self.kept_stored = self._make(Counter, families.KEPT_STORED)
        self.key_requests = self._make(Counter, families.KEY_REQUESTS)
        self.key_tokens = self._make(Counter, families.KEY_TOKENS)
        ProcessCollector(registry=self.registry)
        self._exchanges: dict[tuple[str, str, str], _Exchanges] = {}
        self._keys: dict[str, tuple[Counter, Counter, Counter]] = {}

    def ended(self, route: str, model: str, node: str, key: str, done: Done) -> None:
        """An exchange with a backend is over. `model` and `node` are labels already: bounded in number."""
        series = self._exchanges.get((route, model, node))
        if series is None:
            series = _Exchanges(self, route_label(route), model, node)
            self._exchanges[route, model, node] = series
        ended = series.ends.get((done.outcome, done.status))
        if ended is None:
            ended = self.requests.labels(
                route_label(route), model, node, outcome_label(done.outcome), status_label(done.status)
            )
            series.ends[done.outcome, done.status] = ended
        ended.inc()
        if done.first_byte >= 0:
            series.first_byte.observe(done.first_byte)
        if done.duration >= 0 and done.outcome == "served":
            series.duration.observe(done.duration)
        usage = done.usage
        if usage.prompt_tokens >= 0 or usage.output_tokens >= 0:
            _count_tokens(series, usage)
            if key:
                self._count_key(key, usage)
        if usage.load >= 0:
            series.load.observe(usage.load)

    def asked(self, key: str) -> None:
        """A request came with this key."""
        self._of_key(key)[0].inc()

    def _count_key(self, key: str, usage: Usage) -> None:
        _, prompt, output = self._of_key(key)
        prompt.inc(max(usage.prompt_tokens, 0))
        output.inc(max(usage.output_tokens, 0))

    def _of_key(self, key: str) -> tuple[Counter, Counter, Counter]:
        series = self._keys.get(key)
        if series is None:
            tokens = self.key_tokens
            series = (self.key_requests.labels(key), tokens.labels(key, "prompt"), tokens.labels(key, "output"))
            self._keys[key] = series
        return series

    def _make(self, kind: type[_Metric], family: Family) -> _Metric:
        more: dict[str, Any] = {"buckets": family.buckets} if family.buckets else {}
        return kind(family.name, family.meaning, family.labels, registry=self.registry, **more)


def route_label(route: str) -> str:
    return route if route in _ROUTES else OTHER


def outcome_label(outcome: str) -> str:
    return outcome if outcome in OUTCOMES else OTHER


def status_label(status: int) -> str:
    """A word where there was no answer, and one for all that HTTP does not know."""
    if status <= 0:
        return "none"
    return str(status) if status in _STATUSES else OTHER


def _count_tokens(series: _Exchanges, usage: Usage) -> None:
    if usage.prompt_tokens > 0:
        series.prompt.inc(usage.prompt_tokens)
        if usage.prompt > 0:
            series.prompt_seconds.inc(usage.prompt)
            series.prompt_speed.observe(usage.prompt_tokens / usage.prompt)
    if usage.output_tokens > 0:
        series.output.inc(usage.output_tokens)
        if usage.output > 0:
            series.output_seconds.inc(usage.output)
            series.output_speed.observe(usage.output_tokens / usage.output)
