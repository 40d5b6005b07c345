"""What a gateway costs while nobody asks: looking after its hosts. HAProxy asks each for its version every two seconds here (httpchk); olladist for
its models and what is in memory too.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import cpu, markdown, proxies
from bench.processes import LOAD_CORE, backends, free_port
from bench.proxies import Proxy
from bench.rounds import least
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


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds of CPU in a second."""

    rest: float


@contextlib.contextmanager
def started(name: str, directory: Path, ports: Sequence[int]) -> Iterator[Proxy]:
    directory.mkdir()
    port = free_port()
    make = partial(proxies.haproxy, checks=True) if name == "HAProxy" else proxies.olladist
    with proxies.serving(name, directory, port, make(directory, port, ports, 1)) as proxy:
        yield proxy


def measure(proxy: Proxy, sizes: Sizes) -> Cost:
    time.sleep(sizes.settle)
    pids = proxy.pids()
    before = cpu.seconds(pids)
    time.sleep(sizes.seconds)
    return Cost((cpu.seconds(pids) - before) / sizes.seconds * 1000)


def run(only: Sequence[str], sizes: Sizes) -> dict[str, list[Cost]]:
    """By proxy, for each number of hosts. nginx and aiohttp look after nobody."""
    names = [name for name in proxies.available(only) if name in {"olladist", "HAProxy"}]
    os.sched_setaffinity(0, {LOAD_CORE})
    costs: dict[str, list[Cost]] = {name: [] for name in names}
    for hosts in sizes.hosts:
        ports = free_ports(hosts)
        with tempfile.TemporaryDirectory(prefix="olladist-bench-") as scratch, backends(ports, Path(scratch)):
            for name in names:
                rounds = []
                for number in range(sizes.rounds):
                    with started(name, Path(scratch) / f"{name}-{number}", ports) as proxy:
                        rounds.append(measure(proxy, sizes))
                costs[name].append(least(rounds))
    return costs


def table(costs: dict[str, list[Cost]], sizes: Sizes) -> str:
    head = ["CPU in a second, nobody asks", *(f"{hosts} hosts" for hosts in sizes.hosts)]
    return markdown.table(head, [[name, *(f"{cost.rest:.1f} ms" for cost in each)] for name, each in costs.items()])
