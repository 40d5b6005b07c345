"""The metrics that are counted as things happen; gauges.py has those that are read when somebody asks."""

from http import HTTPStatus
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, ProcessCollector
from prometheus_client.metrics import MetricWrapperBase, disable_created_metrics

from olladist.gateway.control import families
from olladist.gateway.control.families import Family
from olladist.gateway.control.series import Exchanges, Series
from olladist.gateway.control.uses import Uses
from olladist.gateway.lease import OUTCOMES
from olladist.ollama.routes import ROUTES

OTHER = "other"
_ROUTES = frozenset(route.name for route in ROUTES)
_STATUSES = frozenset(int(status) for status in HTTPStatus)

# A third of all lines would say when each series began, which no query needs.
disable_created_metrics()  # type: ignore[no-untyped-call]  # it is so in the library

_Metric = TypeVar("_Metric", bound=MetricWrapperBase)


class Metrics:
    """Everything in a registry of its own, with the figures of this process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.retries = self._make(Counter, families.RETRIES)
        self.fallbacks = self._make(Counter, families.FALLBACKS)
        self.refusals = self._make(Counter, families.REFUSALS)
        self.loads = self._make(Counter, families.LOADS)
        self.probes = self._make(Counter, families.PROBES)
        self.probe_failures = self._make(Counter, families.PROBE_FAILURES)
        self.kept_hits = self._make(Counter, families.KEPT_HITS)
        self.kept_stored = self._make(Counter, families.KEPT_STORED)
        ProcessCollector(registry=self.registry)
        self._series = Series()
        self.registry.register(self._series)
        self._known: dict[tuple[str, str, str], Exchanges] = {}  # by what was said, of which the labels are made

    def ended(self, route: str, model: str, node: str, key: str, outcome: str, status: int, uses: Uses) -> None:
        """Exchanges with a backend are over. `model` and `node` are labels already: bounded in number."""
        self._of(route, model, node).count(outcome_label(outcome), status_label(status), uses)
        if key and (uses.prompt_tokens or uses.output_tokens):
            of_key = self._series.of_key(key)
            of_key.prompt += uses.prompt_tokens
            of_key.output += uses.output_tokens

    def asked(self, key: str, requests: int = 1) -> None:
        """Requests came with this key."""
        self._series.of_key(key).requests += requests

    def _of(self, route: str, model: str, node: str) -> Exchanges:
        series = self._known.get((route, model, node))
        if series is None:
            series = self._known[route, model, node] = self._series.exchanges(route_label(route), model, node)
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
