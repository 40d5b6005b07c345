"""What a request and a streamed line cost in the gateway, beside HAProxy and nginx before the same backends.

The proxy runs alone on core 1, load generator and backends on core 0. Figures are CPU time of all processes of the proxy,
from /proc. A run with an answer that is not 200 or not whole fails.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import cpu, stub
from bench.processes import free_port, running

REPEATS = 3
SMALL = {"connections": 32, "requests": 10_000}
STREAMS = {"connections": 200, "requests": 1_000}


@dataclass(frozen=True, slots=True)
class Cost:
    small_us: float
    line_us: float
    first_byte_p50_ms: float
    first_byte_p99_ms: float
    megabytes: float


def haproxy(directory: Path, port: int, backends: list[int]) -> list[str]:
    servers = "\n".join(f"  server b{n} 127.0.0.1:{b} maxconn 10000" for n, b in enumerate(backends))
    config = f"""global
  maxconn 9500
  nbthread 1
defaults
  mode http
  option http-no-delay
  timeout connect 5s
  timeout client 600s
  timeout server 600s
frontend f
  bind 127.0.0.1:{port}
  default_backend b
backend b
  balance roundrobin
  http-reuse always
{servers}
"""
    (directory / "haproxy.cfg").write_text(config)
    return ["haproxy", "-db", "-f", str(directory / "haproxy.cfg")]


def nginx(directory: Path, port: int, backends: list[int]) -> list[str]:
    servers = "\n".join(f"    server 127.0.0.1:{b};" for b in backends)
    config = f"""daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log stderr warn;
events {{ worker_connections 20000; }}
http {{
  access_log off; client_body_temp_path {directory}/body; proxy_temp_path {directory}/temp;
  upstream b {{ {servers} keepalive 512; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096; keepalive_requests 1000000;
    location / {{
      proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; proxy_read_timeout 600s;
    }}
  }}
}}
"""
    (directory / "nginx.conf").write_text(config)
    return ["nginx", "-e", "stderr", "-p", str(directory), "-c", str(directory / "nginx.conf")]


def olladist(directory: Path, port: int, backends: list[int]) -> list[str]:
    instances = ", ".join(f"{{ port = {b} }}" for b in backends)
    hosts = f'[hosts.here]\nconnection = "local"\ninstances = [{instances}]\n'
    (directory / "inventory.toml").write_text(f'[fleet]\nname = "bench"\nollama = "0.17.4"\n{hosts}')
    inventory = str(directory / "inventory.toml")
    return [
        sys.executable,
        "-m",
        "olladist",
        "-i",
        inventory,
        "proxy",
        "--listen",
        f"127.0.0.1:{port}",
        "--workers",
        "1",
    ]


PROXIES: dict[str, Callable[[Path, int, list[int]], list[str]]] = {
    "olladist": olladist,
    "HAProxy": haproxy,
    "nginx": nginx,
}


def load(port: int, shape: str, connections: int, requests: int) -> dict[str, float]:
    words = [
        "taskset",
        "-c",
        "0",
        sys.executable,
        "-m",
        "bench.load",
        f"127.0.0.1:{port}",
        str(connections),
        str(requests),
        shape,
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return dict(json.loads(done.stdout))


def measure(port: int, pid: int) -> Cost:
    processes = cpu.tree(pid)
    cpu.pin(processes, 1)
    load(port, "small", 8, 200)
    before = cpu.seconds(processes)
    load(port, "small", **SMALL)
    between = cpu.seconds(processes)
    streamed = load(port, "stream", **STREAMS)
    after = cpu.seconds(processes)
    lines = STREAMS["requests"] * (stub.LINES + 1)
    return Cost(
        (between - before) / SMALL["requests"] * 1e6,
        (after - between) / lines * 1e6,
        streamed["first_byte_p50_ms"],
        streamed["first_byte_p99_ms"],
        cpu.resident(processes) / 1e6,
    )


@contextlib.contextmanager
def backends(count: int, directory: Path) -> Iterator[list[int]]:
    with contextlib.ExitStack() as stack:
        ports = [free_port() for _ in range(count)]
        for port in ports:
            words = ["taskset", "-c", "0", sys.executable, "-m", "bench.stub", str(port)]
            stack.enter_context(running(words, port, directory / f"stub-{port}.log"))
        yield ports


def run() -> dict[str, Cost]:
    """The cheapest of some runs of each proxy, all in turn, so that the machine's moods hit all alike."""
    names = [name for name in PROXIES if name == "olladist" or shutil.which(name.lower())]
    costs: dict[str, list[Cost]] = {name: [] for name in names}
    os.sched_setaffinity(0, {0})
    with tempfile.TemporaryDirectory() as scratch, backends(3, Path(scratch)) as ports:
        for repeat in range(REPEATS):
            for name in names:
                directory = Path(scratch) / f"{name}-{repeat}"
                directory.mkdir()
                port = free_port()
                words = PROXIES[name](directory, port, ports)
                with running(words, port, directory / "log") as process:
                    costs[name].append(measure(port, process.pid))
    return {name: min(list_, key=lambda cost: cost.small_us + cost.line_us) for name, list_ in costs.items()}


def table(costs: dict[str, Cost]) -> str:
    rows = [
        "| proxy | CPU per small request | CPU per streamed line | first byte p50 / p99, 200 streams | memory |",
        "|---|---|---|---|---|",
    ]
    for name, cost in costs.items():
        rows.append(
            f"| {name} | {cost.small_us:.0f} µs | {cost.line_us:.1f} µs "
            f"| {cost.first_byte_p50_ms:.1f} / {cost.first_byte_p99_ms:.1f} ms | {cost.megabytes:.0f} MB |"
        )
    if "HAProxy" in costs:
        ours, theirs = costs["olladist"], costs["HAProxy"]
        rows.append(
            f"\nRatio to HAProxy: {ours.small_us / theirs.small_us:.2f} per request, {ours.line_us / theirs.line_us:.2f} per line."
        )
    return "\n".join(rows)
