"""The document of GET /admin/stats: what the gateway has done since its start and in the last minutes, and what it takes itself."""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from olladist import __version__
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.processes import taken
from olladist.gateway.control.sketch import quantile
from olladist.gateway.control.stats import STEP, Period, Stats, Sums
from olladist.gateway.lease import COUNTED

Count = Annotated[int, msgspec.Meta(ge=0)]


class FirstByte(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds until the first byte of an answer that half, 95 and 99 of 100 requests did not exceed; up to 5 % off."""

    p50: float
    p95: float
    p99: float


class Figures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happened in one period. `requests` are those that ended on a backend, each try by itself.

    Of these, `errors` failed (no connection, died, cut, an answer that another node may better, a status from 500 on) and the
    client left `left`. `retries` went to another backend, `fallbacks` to a fallback, `cached` were answered from kept answers.
    `refused` and `rate_limited` (429) were given to no backend and are not among the requests. Speeds are those that backends
    say; null where none did.
    """

    requests: Count
    errors: Count
    left: Count
    retries: Count
    fallbacks: Count
    cached: Count
    refused: Count
    rate_limited: Count
    prompt_tokens: Count
    output_tokens: Count
    prompt_tokens_per_second: float | None
    output_tokens_per_second: float | None
    first_byte: FirstByte | None


class Periods(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The last minutes reach up to 10 s further back than their names say."""

    start: Figures
    minutes_1: Figures
    minutes_5: Figures
    minutes_15: Figures


class WorkerFigures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An edge worker. Memory and CPU time are null where the system does not tell (no /proc); `counted` is since the start.

    `counted` has `connections` accepted, `bad_request`, `unauthorized`, `forbidden`, `too_many` and `cut_slow`.
    """

    number: Count
    pid: Count
    resident_bytes: Count | None
    cpu_seconds: float | None
    counted: dict[str, Count]


class KeptAnswers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept now, and since the start: `stored`, `given` again, `dropped` for age or room."""

    answers: Count
    bytes: Count
    bytes_max: Count
    stored: Count
    given: Count
    dropped: Count


class Statistics(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the gateway has done since its control process started. A model that the fleet does not list is `other`."""

    schema: Literal["olladist.gateway.stats"] = "olladist.gateway.stats"
    version: Literal[1] = 1
    olladist: str
    uptime_seconds: float
    mode: Literal["distributed", "local", "standalone"]
    in_flight: Count
    waiting: Count
    whole: Periods
    models: dict[str, Periods]
    nodes: dict[str, Periods]
    keys: dict[str, Periods]
    cache: KeptAnswers
    workers: tuple[WorkerFigures, ...]


def statistics(parts: Parts) -> Statistics:
    stats = parts.leases.observer.stats
    return Statistics(
        olladist=__version__,
        uptime_seconds=round(parts.now() - parts.started, 3),
        mode=parts.roster.serving.mode.value,
        in_flight=parts.dispatcher.ledger.total,
        waiting=parts.leases.waiting,
        whole=_periods(stats, stats.whole),
        models=_all(stats, stats.periods["model"]),
        nodes=_all(stats, stats.periods["node"]),
        keys=_all(stats, stats.periods["key"]),
        cache=_cache(parts),
        workers=_workers(parts),
    )


def _all(stats: Stats, periods: Mapping[str, Period]) -> dict[str, Periods]:
    return {name: _periods(stats, period) for name, period in sorted(periods.items())}


def _periods(stats: Stats, period: Period) -> Periods:
    def last(minutes: int) -> Figures:
        return _figures(period.since(stats.step - round(minutes * 60 / STEP)))

    return Periods(start=_figures(period.ever()), minutes_1=last(1), minutes_5=last(5), minutes_15=last(15))


def _figures(sums: Sums) -> Figures:
    return Figures(
        requests=sums.requests,
        errors=sums.errors,
        left=sums.left,
        retries=sums.retries,
        fallbacks=sums.fallbacks,
        cached=sums.cached,
        refused=sums.refused,
        rate_limited=sums.rate_limited,
        prompt_tokens=sums.prompt_tokens,
        output_tokens=sums.output_tokens,
        prompt_tokens_per_second=_speed(sums.prompt_tokens, sums.prompt_seconds),
        output_tokens_per_second=_speed(sums.output_tokens, sums.output_seconds),
        first_byte=_first_byte(sums.first_bytes),
    )


def _speed(tokens: int, seconds: float) -> float | None:
    return round(tokens / seconds, 3) if seconds > 0 else None


def _first_byte(counts: dict[int, int]) -> FirstByte | None:
    p50, p95, p99 = (quantile(counts, q) for q in (0.5, 0.95, 0.99))
    if p50 is None or p95 is None or p99 is None:
        return None
    return FirstByte(p50=round(p50, 4), p95=round(p95, 4), p99=round(p99, 4))


def _cache(parts: Parts) -> KeptAnswers:
    cache = parts.cache
    return KeptAnswers(
        answers=len(cache),
        bytes=cache.bytes,
        bytes_max=cache.max_bytes,
        stored=cache.stored,
        given=cache.given,
        dropped=cache.dropped,
    )


def _workers(parts: Parts) -> tuple[WorkerFigures, ...]:
    counted = parts.leases.observer.counts
    rows = []
    for worker in parts.leases.workers.values():
        if worker.hello is None:
            continue
        figure = taken(worker.hello.pid)
        rows.append(
            WorkerFigures(
                number=worker.hello.worker,
                pid=worker.hello.pid,
                resident_bytes=figure.resident_bytes if figure else None,
                cpu_seconds=round(figure.cpu_seconds, 2) if figure else None,
                counted={event: counted[worker.hello.worker, event] for event in COUNTED},
            )
        )
    return tuple(rows)
