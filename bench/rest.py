"""What a gateway costs while nobody asks: looking after its hosts. HAProxy asks each for its version every two seconds here (httpchk); olladist for
its models and what is in memory too.
"""

import os
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import cpu, markdown, proxies
from bench.processes import LOAD_CORE, backends
from bench.proxies import Proxy
from olladist.sim.hosts import free_ports


@dataclass(frozen=True, slots=True)
class Sizes:
    rounds: int
    hosts: tuple[int, ...]
    settle: float  # seconds
    seconds: float


SIZES = {
    "full": Sizes(rounds=3, hosts=(3, 50, 200), settle=4, seconds=10),
    "quick": Sizes(rounds=1, hosts=(3, 200), settle=3, seconds=5),
    "tiny": Sizes(rounds=1, hosts=(3,), settle=0.1, seconds=0.2),
}


PROXIES: dict[str, proxies.Make] = {
    "olladist": proxies.olladist,
    "HAProxy": partial(proxies.haproxy, checks=True),
}


def measure(proxy: Proxy, sizes: Sizes) -> float:
    """Milliseconds of CPU in a second. Nothing tells when a proxy has done all that belongs to its start, so that is a time too."""
    pause = threading.Event()
    pause.wait(sizes.settle)
    pids = proxy.pids()
    before = cpu.seconds(pids)
    pause.wait(sizes.seconds)
    return (cpu.seconds(pids) - before) / sizes.seconds * 1000


def run(only: Sequence[str], sizes: Sizes) -> dict[str, dict[int, float]]:
    """By proxy and number of hosts, the least of some rounds. nginx and aiohttp look after nobody."""
    os.sched_setaffinity(0, {LOAD_CORE})
    costs: dict[str, dict[int, float]] = {name: {} for name in proxies.available(only) if name in PROXIES}
    for hosts in sizes.hosts:
        ports = free_ports(hosts)
        with tempfile.TemporaryDirectory(prefix="olladist-bench-") as scratch, backends(ports, Path(scratch)):
            for name, of_hosts in costs.items():
                rounds = []
                for number in range(sizes.rounds):
                    directory = Path(scratch) / f"{name}-{number}"
                    with proxies.started(name, directory, ports, make=PROXIES[name]) as proxy:
                        rounds.append(measure(proxy, sizes))
                of_hosts[hosts] = min(rounds)
    return costs


def table(costs: dict[str, dict[int, float]]) -> str:
    hosts = next(iter(costs.values()), {})
    head = ["CPU in a second, nobody asks", *(f"{number} hosts" for number in hosts)]
    return markdown.table(head, [[name, *(f"{cost:.1f} ms" for cost in each.values())] for name, each in costs.items()])
