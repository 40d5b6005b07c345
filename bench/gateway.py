"""What a request and a streamed line cost in the gateway, beside HAProxy, nginx and a plain proxy before the same backends.

The proxy runs alone on one core, load generator and backends on another. A run with an answer that is not 200 or not whole fails.
"""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import cpu, markdown, proxies
from bench.load import Load, Result, loaded, quantile
from bench.processes import LOAD_CORE, backends
from bench.proxies import KEY
from bench.rounds import least
from olladist.sim.hosts import free_ports

BACKENDS = 3


@dataclass(frozen=True, slots=True)
class Sizes:
    rounds: int
    requests: int  # small ones, of each kind
    flood: int  # streams whose lines come as fast as they can be taken
    paced: int  # streams at 50 lines a second
    lines: int = 100  # of each stream, and a last one


SIZES = {
    "full": Sizes(rounds=5, requests=10_000, flood=600, paced=600),
    "quick": Sizes(rounds=1, requests=4_000, flood=400, paced=400),
    "tiny": Sizes(rounds=1, requests=40, flood=4, paced=4, lines=5),
}


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU in µs, latency in ms, memory in MB. NaN: it has none of that."""

    generate: float
    embed: float
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


def measure(port: int, pids: list[int], sizes: Sizes) -> Cost:
    """All loads in turn. Without processes only latencies."""

    def cost(count: int, load: Load) -> tuple[float, Result]:
        before = cpu.seconds(pids)
        result = loaded(load)
        return (cpu.seconds(pids) - before) / count * 1e6 if pids else float("nan"), result

    streams, lines = min(200, sizes.paced // 2), sizes.lines
    flood = Load(port, min(200, sizes.flood), sizes.flood, key=KEY, lines=lines, every=0.002)
    paced = Load(port, streams, sizes.paced, key=KEY, lines=lines, every=0.02, spread=lines * 0.02, burst=True)
    loaded(Load(port, 8, min(400, sizes.requests), key=KEY))
    generate, _ = cost(sizes.requests, Load(port, 32, sizes.requests, key=KEY))
    embed, _ = cost(sizes.requests, Load(port, 32, sizes.requests, key=KEY, path="/api/embed"))
    paced_line, latency = cost((sizes.paced + streams) * (lines + 1), paced)
    flood_line, _ = cost(sizes.flood * (lines + 1), flood)
    return Cost(
        generate=generate,
        embed=embed,
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


def run(only: Sequence[str], sizes: Sizes) -> dict[str, Cost]:
    """Some rounds of all proxies in turn, so that the machine's moods hit all alike; `direct` is without any."""
    names = proxies.available(only)
    costs: dict[str, list[Cost]] = {name: [] for name in ("direct", *names)}
    os.sched_setaffinity(0, {LOAD_CORE})
    ports = free_ports(BACKENDS)
    with tempfile.TemporaryDirectory(prefix="olladist-bench-") as scratch, backends(ports, Path(scratch)):
        for number in range(sizes.rounds):
            costs["direct"].append(measure(ports[0], [], sizes))
            for name in names:
                with proxies.started(name, Path(scratch) / f"{name}-{number}", ports) as proxy:
                    costs[name].append(measure(proxy.port, proxy.pids(), sizes))
    return {name: least(rounds) for name, rounds in costs.items()}


def table(costs: dict[str, Cost]) -> str:
    cpu_head = ["proxy", "generate", "embed", "line, 50/s", "line, flood", "memory"]
    cpu_rows = [
        [
            name,
            f"{cost.generate:.1f} µs",
            f"{cost.embed:.1f} µs",
            f"{cost.paced_line:.2f} µs",
            f"{cost.flood_line:.2f} µs",
            f"{cost.memory:.0f} MB",
        ]
        for name, cost in costs.items()
        if name != "direct"
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
    return "\n\n".join([*tables, "\n".join(ratios(costs, other) for other in others)])


def ratios(costs: dict[str, Cost], other: str) -> str:
    """CPU over CPU, first byte over first byte, and what each adds to the first byte of a direct connection."""
    ours, theirs, direct = costs["olladist"], costs[other], costs["direct"]
    names = {"generate": "generate", "embed": "embed", "line": "paced_line", "flood": "flood_line"}
    words = [f"{word} {getattr(ours, name) / getattr(theirs, name):.2f}" for word, name in names.items()]
    for word in ("warm", "cold", "burst"):
        both = [
            (getattr(ours, f"{word}_{part}"), getattr(theirs, f"{word}_{part}"), getattr(direct, f"{word}_{part}"))
            for part in ("p50", "p99")
        ]
        times = " / ".join(f"{mine / their:.2f}" for mine, their, _ in both)
        added = " / ".join(f"{mine - none:+.2f} to {their - none:+.2f}" for mine, their, none in both)
        words.append(f"{word} {times} (added ms {added})")
    return f"- against {other}: {'; '.join(words)}"
