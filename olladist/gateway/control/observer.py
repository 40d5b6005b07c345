"""Sees every request that workers ask for and how it ends; what it learns goes into metrics, statistics and the rates of keys."""

from collections import Counter
from typing import NamedTuple

from olladist.gateway.control.backends import Backend, Role
from olladist.gateway.control.keys import Keys
from olladist.gateway.control.limits import RateLimits
from olladist.gateway.control.metrics import OTHER, Metrics, route_label, status_label
from olladist.gateway.control.roster import Change, Roster
from olladist.gateway.control.stats import Stats
from olladist.gateway.control.uses import columns
from olladist.gateway.lease import COUNTED, NO_USAGE, RETURNED, Ask, Done, Grant, Hello, Refuse, Use, Used
from olladist.ollama.names import parse_name, split_name
from olladist.scheduling.health import State

# A fleet has a few hundred models; those that came and went since the start may be as many again.
MODELS_MAX = 1_000
# Spellings of names that the fleet lists, remembered with their label.
_SPELLINGS_MAX = 4_096

_CACHE = Role.CACHE.value
_FAILED = frozenset({"connect", "died", "cut", "retryable"})
_REASONS = frozenset({404, 500, 503})


class _Running(NamedTuple):
    route: str
    model: str
    node: str
    key: str
    fallback: str


class Observer:
    """What is remembered of a request lasts from its grant to its end: no prompt, no address, no key but its name."""

    def __init__(self, roster: Roster, limits: RateLimits | None = None) -> None:
        self.metrics = Metrics()
        self.stats = Stats(roster.now)
        self.counts: Counter[tuple[int, str]] = Counter()  # what workers have counted
        self.limits = limits or RateLimits(Keys(), roster.now)
        self._roster = roster
        self._running: dict[tuple[int, int], _Running] = {}
        self._used: set[tuple[int, int]] = set()  # leases that have served a request, and go on
        self._failed: dict[tuple[int, int], str] = {}  # why the last request of a worker on a backend came to nothing
        self._labels: dict[str, str] = {}
        self._models: set[str] = set()
        roster.listeners.append(self._changed)
        roster.probe_listeners.append(self.probed)

    def admit(self, ask: Ask) -> Refuse | None:
        """Before a backend is looked for: why there shall be none."""
        return self.limits.admit(ask)

    def answered(self, worker: int, ask: Ask, answer: Grant | Refuse) -> None:
        """An Ask was granted or refused."""
        if ask.key and not ask.tried:
            self.metrics.asked(ask.key)
        if isinstance(answer, Refuse):
            self._refused(ask, answer)
            return
        backend = self._roster.backends.get(answer.backend)
        node = backend.node if backend else _CACHE
        running = _Running(ask.route, self.model_label(ask.model), node, ask.key, answer.fallback)
        self._running[worker, ask.id] = running
        if ask.tried:
            reason = self._failed.get((worker, ask.tried[-1]), OTHER)
            self.metrics.retries.labels(reason).inc()
            self.stats.count("retries", running.model, "", ask.key)
        if answer.fallback:
            self.metrics.fallbacks.labels(answer.fallback, self._why(ask)).inc()
            self.stats.count("fallbacks", running.model, "", ask.key)

    def hello(self, worker: int, hello: Hello) -> None:
        """A worker runs these already; their routes and keys nobody knows any more."""
        for held in hello.held:
            self._running[worker, held.id] = _Running("", self.model_label(held.model), held.node, "", "")

    def done(self, worker: int, done: Done) -> None:
        running = self._running.pop((worker, done.id), None)
        if running is None or done.backend < 0:
            return  # refused, or the client left before the grant was there
        if done.outcome == RETURNED:
            self._used.discard((worker, done.id))
            return
        route, model, node, key, fallback = running
        self._asked_again((worker, done.id), key)
        self._used.discard((worker, done.id))
        # What a kept answer says of itself was spent when it was made.
        usage = NO_USAGE if fallback == _CACHE else done.usage
        uses = columns((Use(done.first_byte, done.duration, done.received, usage),))
        self.metrics.ended(route, model, node, key, done.outcome, done.status, uses)
        failed = done.outcome in _FAILED or done.status >= 500
        if failed:
            self._failed[worker, done.backend] = _reason(done)
        self.stats.ended(model, node, key, uses, failed=failed, left=done.outcome == "left")
        if fallback == _CACHE and done.status == 200:
            self.metrics.kept_hits.inc()
            self.stats.count("cached", model, "", key)
        if key:
            self.limits.charge(key, uses.prompt_tokens + uses.output_tokens)

    def used(self, worker: int, used: Used) -> None:
        """Requests were served under a lease that goes on: more than its Ask has told of."""
        lease = worker, used.id
        running = self._running.get(lease)
        if running is None:
            return
        route, model, node, key, _ = running
        uses = columns(used.uses)
        self.metrics.ended(route, model, node, key, "served", 200, uses)
        self.stats.ended(model, node, key, uses)
        self._asked_again(lease, key, uses.requests)
        self._used.add(lease)

    def _asked_again(self, lease: tuple[int, int], key: str, served: int = 1) -> None:
        """A lease's first request was counted when it was asked for."""
        if key:
            self.metrics.asked(key, served - (lease not in self._used))

    def counted(self, worker: int, counts: dict[str, int]) -> None:
        """`worker` is its number among the workers, not that of its connection."""
        for event in COUNTED:
            if (count := counts.get(event, 0)) > 0:
                self.counts[worker, event] += count

    def kept(self) -> None:
        """An answer was stored, so that it can be given again."""
        self.metrics.kept_stored.inc()

    def probed(self, backend: Backend, problem: str) -> None:
        self.metrics.probes.labels(backend.node).inc()
        if problem:
            self.metrics.probe_failures.labels(backend.node).inc()

    def gone(self, worker: int) -> None:
        """A worker's connection has ended, and all it ran with it as far as is known."""
        for held in [held for held in self._running if held[0] == worker]:
            del self._running[held]
            self._used.discard(held)
        for backend in [backend for backend in self._failed if backend[0] == worker]:
            del self._failed[backend]

    def model_label(self, model: str) -> str:
        """The model's name as listings show it; "other" for what the fleet does not list, so that nobody can make up names."""
        label = self._labels.get(model)
        if label is not None:
            return label
        key = split_name(model).key
        if not self._roster.holders_in_play(key):
            return OTHER
        label = str(parse_name(key))
        if label not in self._models and len(self._models) >= MODELS_MAX:
            return OTHER
        self._models.add(label)
        if len(self._labels) < _SPELLINGS_MAX:
            self._labels[model] = label
        return label

    def _refused(self, ask: Ask, refuse: Refuse) -> None:
        self.metrics.refusals.labels(route_label(ask.route), status_label(refuse.status)).inc()
        if refuse.status == 429:
            self.stats.count("rate_limited", "", "", ask.key)
        else:
            self.stats.count("refused", "", "", ask.key)

    def _why(self, ask: Ask) -> str:
        """The reason of a fallback as one of a few words: texts with names in them would be a series each."""
        if ask.tried:
            return "failed"
        roster = self._roster
        first = set(roster.of_role(roster.serving.order[0]))
        if not any(roster.seen[number].state is not State.DOWN for number in first):
            return "down"
        holders = first.intersection(roster.holders_in_play(split_name(ask.model).key))
        if not holders:
            return "missing"
        live = [number for number in holders if roster.seen[number].state is not State.DOWN]
        if not live:
            return "down"
        return "drained" if all(roster.backends[number].node in roster.drained for number in live) else OTHER

    def _changed(self, change: Change) -> None:
        """Counts what has come into a node's memory since its /api/ps was read last."""
        before, after = change.before, change.after
        if before is None or after is None or before.loaded is after.loaded or before.loaded_read < 0:
            return
        known = {(row.key, row.digest) for row in before.loaded}
        for row in after.loaded:
            if (row.key, row.digest) not in known:
                self.metrics.loads.labels(self.model_label(row.key), change.backend.node).inc()


def _reason(done: Done) -> str:
    if done.outcome != "retryable":
        return done.outcome if done.outcome in _FAILED else OTHER
    return str(done.status) if done.status in _REASONS else OTHER
