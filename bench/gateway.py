"""What a request and a streamed line cost in the gateway, beside HAProxy, nginx and a plain proxy before the same backends.

The proxy runs alone on one core, load generator and backends on another. A run with an answer that is not 200 or not whole fails.
"""

import contextlib
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import cpu, markdown, proxies
from bench.load import Load, Result, loaded, quantile
from bench.processes import LOAD_CORE, backends
from bench.proxies import KEY, Proxy
from bench.rounds import least
from olladist.sim.hosts import free_ports

BACKENDS = 3


@dataclass(frozen=True, slots=True)
class Sizes:
    turns: int
    requests: int  # small ones, of each kind and turn
    rounds: int
    flood: int  # streams whose lines come as fast as they can be taken
    paced: int  # streams at 50 lines a second
    lines: int = 100  # of each stream, and a last one


SIZES = {
    "full": Sizes(turns=9, requests=10_000, rounds=5, flood=600, paced=600),
    "quick": Sizes(turns=3, requests=4_000, rounds=1, flood=400, paced=400),
    "tiny": Sizes(turns=2, requests=40, rounds=1, flood=4, paced=4, lines=5),
}


@dataclass(frozen=True, slots=True)
class Small:
    """CPU of a small request in µs."""

    generate: float
    embed: float


@dataclass(frozen=True, slots=True)
class Cost:
    """Of streams: CPU in µs, latency in ms; memory in MB. NaN: it has none of that."""

    flood_line: float
    paced_line: float
    warm_p50: float
    warm_p99: float
    cold_p50: float
    cold_p99: float
    burst_p50: float
    burst_p99: float
    line_p99: float
    memory: float


@dataclass(frozen=True, slots=True)
class Measured:
    """By proxy: a `small` for each turn, and `costs` of streams, with those of `direct`, which is none."""

    small: dict[str, list[Small]]
    costs: dict[str, Cost]


def in_turns(running: dict[str, Proxy], sizes: Sizes) -> dict[str, list[Small]]:
    """Of proxies that all run, one at a time has something to do: what a request costs on this machine changes by a third within seconds, for
    all alike, so only loads that follow each other can be compared.
    """
    small: dict[str, list[Small]] = {name: [] for name in running}
    for _ in range(sizes.turns):
        for name, proxy in running.items():
            spent = []
            for path in ("/api/generate", "/api/embed"):
                before = cpu.seconds(proxy.pids())
                loaded(Load(proxy.port, 32, sizes.requests, key=KEY, path=path))
                spent.append((cpu.seconds(proxy.pids()) - before) / sizes.requests * 1e6)
            small[name].append(Small(*spent))
    return small


def of_streams(port: int, pids: list[int], sizes: Sizes) -> Cost:
    """All loads in turn. Without processes only latencies."""

    def cost(count: int, load: Load) -> tuple[float, Result]:
        before = cpu.seconds(pids)
        result = loaded(load)
        return (cpu.seconds(pids) - before) / count * 1e6 if pids else float("nan"), result

    streams, lines = min(200, sizes.paced // 2), sizes.lines
    flood = Load(port, min(200, sizes.flood), sizes.flood, key=KEY, lines=lines, every=0.002)
    paced = Load(port, streams, sizes.paced, key=KEY, lines=lines, every=0.02, spread=lines * 0.02, burst=True)
    loaded(Load(port, 32, sizes.requests, key=KEY))
    paced_line, latency = cost((sizes.paced + streams) * (lines + 1), paced)
    flood_line, _ = cost(sizes.flood * (lines + 1), flood)
    return Cost(
        flood_line=flood_line,
        paced_line=paced_line,
        warm_p50=quantile(latency.warm, 0.5),
        warm_p99=quantile(latency.warm, 0.99),
        cold_p50=quantile(latency.cold, 0.5),
        cold_p99=quantile(latency.cold, 0.99),
        burst_p50=quantile(latency.burst, 0.5),
        burst_p99=quantile(latency.burst, 0.99),
        line_p99=quantile(latency.line, 0.99),
        memory=cpu.memory(pids) / 1e6 if pids else float("nan"),
    )


def run(only: Sequence[str], sizes: Sizes) -> Measured:
    """Small requests in turns, then some rounds of streams with each proxy alone; `direct` is without any."""
    names = proxies.available(only)
    costs: dict[str, list[Cost]] = {name: [] for name in ("direct", *names)}
    os.sched_setaffinity(0, {LOAD_CORE})
    ports = free_ports(BACKENDS)
    with tempfile.TemporaryDirectory(prefix="olladist-bench-") as place, backends(ports, scratch := Path(place)):
        with contextlib.ExitStack() as stack:
            up = {name: stack.enter_context(proxies.started(name, scratch / name, ports)) for name in names}
            small = in_turns(up, sizes)
        for number in range(sizes.rounds):
            costs["direct"].append(of_streams(ports[0], [], sizes))
            for name in names:
                with proxies.started(name, scratch / f"{name}-{number}", ports) as proxy:
                    costs[name].append(of_streams(proxy.port, proxy.pids(), sizes))
    return Measured(small, {name: least(rounds) for name, rounds in costs.items()})


def table(measured: Measured) -> str:
    costs = measured.costs
    cpu_head = ["proxy", "generate", "embed", "line, 50/s", "line, flood", "memory"]
    cpu_rows = [
        [
            name,
            f"{statistics.median(each.generate for each in small):.1f} µs",
            f"{statistics.median(each.embed for each in small):.1f} µs",
            f"{costs[name].paced_line:.2f} µs",
            f"{costs[name].flood_line:.2f} µs",
            f"{costs[name].memory:.0f} MB",
        ]
        for name, small in measured.small.items()
    ]
    first_head = ["first byte, 200 streams", "warm p50 / p99", "cold p50 / p99", "burst p50 / p99", "line p99"]
    first_rows = [
        [
            name,
            f"{cost.warm_p50:.2f} / {cost.warm_p99:.2f} ms",
            f"{cost.cold_p50:.2f} / {cost.cold_p99:.2f} ms",
            f"{cost.burst_p50:.2f} / {cost.burst_p99:.2f} ms",
            f"{cost.line_p99:.2f} ms",
        ]
        for name, cost in costs.items()
    ]
    others = [other for other in ("HAProxy", "nginx", "aiohttp") if {other, "olladist"} <= set(costs)]
    tables = markdown.table(cpu_head, cpu_rows), markdown.table(first_head, first_rows)
    return "\n\n".join([*tables, "\n".join(ratios(measured, other) for other in others)])


def ratios(measured: Measured, other: str) -> str:
    """CPU over CPU, first byte over first byte, and what each adds to the first byte of a direct connection.

    Of small requests those of each turn: the median, and in brackets the quarters.
    """
    costs, words = measured.costs, []
    ours, theirs, direct = costs["olladist"], costs[other], costs["direct"]
    for kind in ("generate", "embed"):
        pairs = zip(measured.small["olladist"], measured.small[other], strict=True)
        low, middle, high = statistics.quantiles([getattr(a, kind) / getattr(b, kind) for a, b in pairs], n=4)
        words.append(f"{kind} {middle:.2f} ({low:.2f} to {high:.2f})")
    words.append(f"line {ours.paced_line / theirs.paced_line:.2f}")
    words.append(f"flood {ours.flood_line / theirs.flood_line:.2f}")
    for word in ("warm", "cold", "burst"):
        both = [
            (getattr(ours, f"{word}_{part}"), getattr(theirs, f"{word}_{part}"), getattr(direct, f"{word}_{part}"))
            for part in ("p50", "p99")
        ]
        times = " / ".join(f"{mine / their:.2f}" for mine, their, _ in both)
        added = " / ".join(f"{mine - none:+.2f} to {their - none:+.2f}" for mine, their, none in both)
        words.append(f"{word} {times} (added ms {added})")
    return f"- against {other}: {'; '.join(words)}"
