"""Thousands of requests that wait while a few run: what one that waits costs, how fast a slot that is free gets its next request.

The backends keep their first requests until they are told to go on, so that all others have to wait; from then on each answer takes HOLD
seconds. Backends write down when a request came and when its answer went: the n-th answer frees a slot for the n-th request after those that
ran first. HAProxy has a queue too, with the same bound of requests on each server; nginx, as it is free, has none.
"""

import json
import os
import re
import socket
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import cpu, markdown, proxies
from bench.load import Load, loaded, loading, quantile
from bench.processes import LOAD_CORE, backends, free_port
from bench.proxies import ADMIN, KEY, KEYS, Proxy
from olladist.sim.hosts import free_ports

BACKENDS, WORKERS, HOLD = 4, 2, 0.05


@dataclass(frozen=True, slots=True)
class Sizes:
    waiting: int  # in all; each of two keys has half of them
    slots: int  # of each backend


FULL = Sizes(waiting=10_000, slots=16)
SIZES = {"full": FULL, "quick": FULL, "tiny": Sizes(waiting=40, slots=2)}


@dataclass(frozen=True, slots=True)
class Cost:
    """Bytes for each that waits; seconds until all wait; ms from an answer to the next request; µs of CPU, from beginning to end."""

    request: float
    accepted: float
    next_p50: float
    next_p99: float
    cpu: float
    took: float  # seconds for all that waited


def asked(port: int, path: str, token: str = "") -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  our own
        return str(answer.read().decode())


def waiting_in_ours(proxy: Proxy) -> int:
    found = re.search(r"^olladist_requests_waiting (\d+)", asked(proxy.port, "/metrics", ADMIN), re.MULTILINE)
    return int(found[1]) if found else 0


def waiting_in_haproxy(proxy: Proxy) -> int:
    """`qcur`, the third field, of the backend: doc/management.txt, 9.1."""
    with socket.socket(socket.AF_UNIX) as stats:
        stats.connect(str(proxy.directory / "stats"))
        stats.sendall(b"show stat\n")
        said = b"".join(iter(lambda: stats.recv(65536), b"")).decode()
    rows = [row.split(",") for row in said.splitlines()]
    return sum(int(row[2]) for row in rows if len(row) > 2 and row[:2] == ["b", "BACKEND"])


def until(condition: Callable[[], bool], what: str, seconds: float = 120) -> None:
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {seconds:g} s")
        pause.wait(0.02)


def measure(proxy: Proxy, ports: Sequence[int], waiting_in: Callable[[Proxy], int], sizes: Sizes) -> Cost:
    slots = sizes.slots * len(ports)
    loaded(Load(proxy.port, 8, 200, key=KEY))
    pids = proxy.pids()
    with ExitStack() as stack:
        first = stack.enter_context(loading(Load(proxy.port, slots, slots, key=KEY, hold="go")))
        until(lambda: sum(len(times(port)[0]) for port in ports) == slots, f"{slots} run")
        idle, spent, since = cpu.memory(pids), cpu.seconds(pids), time.monotonic()
        half = sizes.waiting // 2
        loads = [Load(proxy.port, half, half, key=key, hold=str(HOLD)) for key in KEYS]
        results = [stack.enter_context(loading(load)) for load in loads]
        until(lambda: waiting_in(proxy) == sizes.waiting, f"{sizes.waiting} wait")
        accepted, held = time.monotonic() - since, cpu.memory(pids)
        for port in ports:
            asked(port, "/go")
        # Each fails where an answer is missing or not whole.
        for result in (first, *results):
            result()
        spent = cpu.seconds(pids) - spent
    delays, ended = freed(ports)
    return Cost(
        request=(held - idle) / sizes.waiting,
        accepted=accepted,
        next_p50=quantile(delays, 0.5),
        next_p99=quantile(delays, 0.99),
        cpu=spent / sizes.waiting * 1e6,
        took=ended,
    )


def times(port: int) -> tuple[list[float], list[float]]:
    said = json.loads(asked(port, "/times"))
    return said["came"], said["went"]


def freed(ports: Sequence[int]) -> tuple[list[float], float]:
    """Milliseconds from each answer of a backend to the request that took its place; and seconds from the first answer to the last."""
    delays, all_went = list[float](), list[float]()
    for port in ports:
        came, went = times(port)
        ran = sum(1 for each in came if each < went[0])
        later = [(after - before) * 1000 for before, after in zip(went, came[ran:], strict=False)]
        if later and min(later) < 0:
            raise RuntimeError(f"a backend got a request {-min(later):.3f} ms before it had a free slot")
        delays += later
        all_went += went
    return delays, max(all_went) - min(all_went)


def run(only: Sequence[str], sizes: Sizes) -> dict[str, Cost]:
    os.sched_setaffinity(0, {LOAD_CORE})
    costs = {}
    for name in proxies.available(only):
        if name not in {"olladist", "HAProxy"}:
            continue
        ports = free_ports(BACKENDS)
        with tempfile.TemporaryDirectory(prefix="olladist-bench-") as scratch, backends(ports, Path(scratch)):
            directory, port = Path(scratch) / name, free_port()
            directory.mkdir()
            if name == "olladist":
                inventory = proxies.inventory_of(ports, sizes.slots)
                words = proxies.olladist_with(directory, port, inventory, WORKERS, "--strategy", "adaptive")
            else:
                words = proxies.haproxy(directory, port, ports, WORKERS, sizes.slots)
            with proxies.serving(name, directory, port, words) as proxy:
                waiting_in = waiting_in_ours if name == "olladist" else waiting_in_haproxy
                costs[name] = measure(proxy, ports, waiting_in, sizes)
    return costs


def table(costs: dict[str, Cost], sizes: Sizes) -> str:
    slots = sizes.slots * BACKENDS
    head = [f"{sizes.waiting} wait for {slots} slots", "memory of one that waits", "until all wait"]
    head += ["free slot to next request p50 / p99", "CPU of a request", "until all are served"]
    rows = [
        [
            name,
            f"{cost.request / 1024:.1f} KiB",
            f"{cost.accepted:.1f} s",
            f"{cost.next_p50:.2f} / {cost.next_p99:.2f} ms",
            f"{cost.cpu:.0f} µs",
            f"{cost.took:.1f} s",
        ]
        for name, cost in costs.items()
    ]
    busy = f"Nothing was lost or refused. All slots busy without a pause: {sizes.waiting * HOLD / slots:.1f} s."
    return f"{markdown.table(head, rows)}\n\n{busy}"
