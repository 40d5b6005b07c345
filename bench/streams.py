"""Thousands of slow streams at once through two workers: what each costs in memory, and how late its lines are.

A line comes every few seconds on each, as of a large model that many share. Memory is that of all processes of the proxy (PSS), over what
they had when they were idle; buffers of the kernel are not in it, for any proxy.
"""

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import cpu, markdown, proxies
from bench.load import Load, loaded, loading, quantile
from bench.processes import LOAD_CORE, backends
from bench.proxies import KEY, Proxy
from bench.rounds import of_each
from olladist.sim.hosts import free_ports

BACKENDS, WORKERS = 3, 2


@dataclass(frozen=True, slots=True)
class Sizes:
    """Streams are opened over `spread` seconds, and are all there until the first has had its `lines`, one `every` so many seconds."""

    rounds: int
    streams: int
    every: float
    lines: int
    spread: float


SIZES = {
    "full": Sizes(rounds=1, streams=9_000, every=4, lines=8, spread=15),
    "quick": Sizes(rounds=1, streams=9_000, every=4, lines=6, spread=12),
    "tiny": Sizes(rounds=1, streams=40, every=0.1, lines=18, spread=0.3),
}


@dataclass(frozen=True, slots=True)
class Cost:
    """Bytes; µs of CPU; ms from a backend's write of a line to the client's reading it."""

    idle: float
    stream: float
    line: float
    delay_p50: float
    delay_p99: float


def measure(proxy: Proxy, sizes: Sizes) -> Cost:
    loaded(Load(proxy.port, 8, min(200, sizes.streams), key=KEY))
    pids = proxy.pids()
    idle, descriptors = cpu.memory(pids), cpu.descriptors(pids)
    with loading(load_of(proxy.port, sizes)) as result:
        begun, pause = time.monotonic(), threading.Event()
        pause.wait(sizes.spread * 1.1 + 1)
        there = cpu.descriptors(pids) - descriptors
        held, spent, since = cpu.memory(pids), cpu.seconds(pids), time.monotonic()
        pause.wait(max(0.1, begun + sizes.lines * sizes.every - time.monotonic()))
        spent, passed = cpu.seconds(pids) - spent, time.monotonic() - since
        delays = result().line
    if there < 1.5 * sizes.streams:
        raise RuntimeError(
            f"{proxy.name}: {there} descriptors for {sizes.streams} streams: they were not there together"
        )
    return Cost(
        idle=idle,
        stream=(held - idle) / sizes.streams,
        line=spent / (sizes.streams * passed / sizes.every) * 1e6,
        delay_p50=quantile(delays, 0.5),
        delay_p99=quantile(delays, 0.99),
    )


def load_of(port: int, sizes: Sizes) -> Load:
    streams = sizes.streams
    return Load(port, streams, streams, key=KEY, lines=sizes.lines, every=sizes.every, spread=sizes.spread)


def run(only: Sequence[str], sizes: Sizes) -> dict[str, Cost]:
    """Rounds of all proxies in turn: the median of each figure. `direct` is without any."""
    # aiohttp has no workers; what a line costs here is the kernel's, and interpreted the same.
    names = [name for name in proxies.available(only) if name not in {"aiohttp", "interpreted"}]
    costs: dict[str, list[Cost]] = {name: [] for name in ("direct", *names)}
    os.sched_setaffinity(0, {LOAD_CORE})
    ports = free_ports(BACKENDS)
    with tempfile.TemporaryDirectory(prefix="olladist-bench-") as scratch, backends(ports, Path(scratch)):
        for number in range(sizes.rounds):
            delays = loaded(load_of(ports[0], sizes)).line
            nothing = Cost(0, 0, 0, quantile(delays, 0.5), quantile(delays, 0.99))
            costs["direct"].append(nothing)
            for name in names:
                directory = Path(scratch) / f"{name}-{number}"
                with proxies.started(name, directory, ports, workers=WORKERS) as proxy:
                    costs[name].append(measure(proxy, sizes))
    return {name: of_each(rounds, statistics.median) for name, rounds in costs.items()}


def table(costs: dict[str, Cost], sizes: Sizes) -> str:
    head = [f"{sizes.streams} streams, a line every {sizes.every:g} s", "memory of a stream", "idle", "CPU of a line"]
    rows = []
    for name, cost in costs.items():
        cells = [f"{cost.stream / 1024:.1f} KiB", f"{cost.idle / 1e6:.0f} MB", f"{cost.line:.1f} µs"]
        delay = f"{cost.delay_p50:.2f} / {cost.delay_p99:.2f} ms"
        rows.append([name, *(cells if name != "direct" else ["", "", ""]), delay])
    return markdown.table([*head, "delay of a line p50 / p99"], rows)
