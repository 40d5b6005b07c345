"""What an SSH tunnel costs the gateway: no tunnel, OpenSSH's `ssh` as a process of its own, asyncssh inside of the control process; by cipher.

The host is an OpenSSH server of this machine, on the core of load and backends, for on a real fleet it runs elsewhere. The gateway and its
tunnels share the other core. The cipher is chosen as an operator would: in ~/.ssh/config.
"""

import os
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import cpu, markdown, proxies
from bench.load import Load, Result, loaded, quantile
from bench.processes import LOAD_CORE, backends, free_port
from bench.proxies import KEY, Proxy
from bench.rounds import least
from olladist.sim.hosts import ThrowawayHosts

CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com")
WAYS = ("ssh", "asyncssh")


@dataclass(frozen=True, slots=True)
class Sizes:
    rounds: int
    requests: int
    streams: int
    lines: int = 100
    ciphers: tuple[str, ...] = CIPHERS


SIZES = {
    "full": Sizes(rounds=3, requests=4_000, streams=400),
    "quick": Sizes(rounds=1, requests=2_000, streams=200),
    "tiny": Sizes(rounds=1, requests=20, streams=4, lines=5, ciphers=CIPHERS[:1]),
}


@dataclass(frozen=True, slots=True)
class Cost:
    """µs of CPU of the gateway, of its `ssh` processes and of the host's sshd, for a request and for a line; ms."""

    request: float
    request_ssh: float
    request_sshd: float
    line: float
    line_ssh: float
    line_sshd: float
    first_p50: float
    first_p99: float
    line_p50: float
    line_p99: float


def measure(proxy: Proxy, sshd: int, sizes: Sizes) -> Cost:
    loaded(Load(proxy.port, 8, min(200, sizes.requests), key=KEY))
    of = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in proxy.pids()}
    tunnels = [pid for pid, name in of.items() if name == "ssh"]
    groups = ([pid for pid in of if pid not in tunnels], tunnels, cpu.tree(sshd))

    def cost(count: int, load: Load) -> tuple[list[float], Result]:
        before = [cpu.seconds(pids) for pids in groups]
        result = loaded(load)
        return [(cpu.seconds(pids) - start) / count * 1e6 for pids, start in zip(groups, before, strict=True)], result

    requests, _ = cost(sizes.requests, Load(proxy.port, 32, sizes.requests, key=KEY))
    streams = min(200, sizes.streams)
    load = Load(
        proxy.port, streams, sizes.streams + streams, key=KEY, lines=sizes.lines, every=0.02, spread=sizes.lines * 0.02
    )
    lines, result = cost((sizes.streams + streams) * (sizes.lines + 1), load)
    return Cost(
        request=requests[0],
        request_ssh=requests[1],
        request_sshd=requests[2],
        line=lines[0],
        line_ssh=lines[1],
        line_sshd=lines[2],
        first_p50=quantile(result.warm, 0.5),
        first_p99=quantile(result.warm, 0.99),
        line_p50=quantile(result.line, 0.5),
        line_p99=quantile(result.line, 0.99),
    )


def through(way: str, cipher: str, hosts: ThrowawayHosts, directory: Path, sizes: Sizes) -> Cost:
    """A gateway before the host's backends; without a way they are reached directly."""
    host = hosts.hosts["far"]
    home, port = directory / "home", free_port()
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "config").write_text(f"Ciphers {cipher}\n" if cipher else "")
    environ = {"HOME": str(home)}
    if way == "asyncssh":
        environ["PATH"] = str(home)  # there is no `ssh` to be found
    inventory = hosts.inventory().replace("[defaults]\n", "[defaults]\nenv = { OLLAMA_NUM_PARALLEL = 10000 }\n")
    if not way:
        inventory = proxies.inventory_of(host.instances, slots=10_000)
    words = proxies.olladist_with(directory, port, inventory, 1, "--accept-new", "--transport", "tunnel")
    with proxies.serving(way or "none", directory, port, words, environ) as proxy:
        return measure(proxy, hosts._servers["far"], sizes)


def run(sizes: Sizes) -> dict[str, Cost]:
    """Rounds of all in turn."""
    cases = [("", ""), *((way, cipher) for way in WAYS for cipher in sizes.ciphers)]
    costs: dict[str, list[Cost]] = {}
    os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory(prefix="olladist-bench-") as scratch, ExitStack() as stack:
        hosts = stack.enter_context(ThrowawayHosts(Path(scratch) / "hosts", ["far"], instances=3))
        stack.enter_context(backends(hosts.hosts["far"].instances, Path(scratch)))
        for number in range(sizes.rounds):
            for way, cipher in cases:
                directory = Path(scratch) / f"{way}-{cipher}-{number}"
                directory.mkdir()
                name = f"{way}, {cipher.partition('@')[0]}" if way else "no tunnel"
                costs.setdefault(name, []).append(through(way, cipher, hosts, directory, sizes))
    return {name: least(rounds) for name, rounds in costs.items()}


def table(costs: dict[str, Cost]) -> str:
    head = ["tunnel, cipher", "CPU of a request: gateway + ssh (sshd)", "of a line: gateway + ssh (sshd)"]
    rows = [
        [
            name,
            f"{cost.request:.0f} + {cost.request_ssh:.0f} ({cost.request_sshd:.0f}) µs",
            f"{cost.line:.1f} + {cost.line_ssh:.1f} ({cost.line_sshd:.1f}) µs",
            f"{cost.first_p50:.2f} / {cost.first_p99:.2f} ms",
            f"{cost.line_p50:.2f} / {cost.line_p99:.2f} ms",
        ]
        for name, cost in costs.items()
    ]
    return markdown.table([*head, "first byte p50 / p99", "line p50 / p99"], rows)
