"""How the operator's commands grow with the fleet: 50 throw-away hosts on this machine against one.

All hosts share this machine's cores, so their side of the work (sshd, shell, Ollama) is in the figures too; on a real fleet
it runs elsewhere. As root each host has a process table of its own; without, every host sees the servers of all. The black-holed host is a port that drops every SYN.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import markdown
from olladist.sim.hosts import running
from olladist.sim.release import pack_simulated

HOSTS, REPEATS = 50, 5


@dataclass(frozen=True, slots=True)
class Times:
    """Wall seconds and our own process' CPU seconds, medians."""

    wall: float
    cpu: float


def olladist(directory: Path, *words: str, status: int = 0) -> Times:
    environ = os.environ | {"HOME": str(directory), "XDG_STATE_HOME": "", "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": ""}
    start, spent = time.perf_counter(), os.times()
    done = subprocess.run(
        [sys.executable, "-m", "olladist", "-i", str(directory / "inventory.toml"), *words],
        env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    wall, after = time.perf_counter() - start, os.times()
    if done.returncode != status:
        raise RuntimeError(f"{' '.join(words)} -> {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    ours = after.children_user - spent.children_user + after.children_system - spent.children_system
    return Times(wall, ours)


def median(times: list[Times]) -> Times:
    middle = len(times) // 2
    return Times(sorted(t.wall for t in times)[middle], sorted(t.cpu for t in times)[middle])


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port of the loopback on which connections are never made nor refused: its queue is full, so Linux drops the SYN."""
    with socket.socket() as deaf, contextlib.ExitStack() as stack:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        yield deaf.getsockname()[1]


def run() -> dict[str, Times]:
    """Times of commands with nothing to change; the fleet is made and taken down around them."""
    with tempfile.TemporaryDirectory(prefix="olladist-bench-") as scratch:
        directory, root = Path(scratch), os.geteuid() == 0
        if root:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd wants it, and its service makes it where it runs
        with running(HOSTS, directory / "hosts", apart=root) as hosts:
            text = hosts.inventory(comment="bench").replace("[defaults]", '[defaults]\nhost_keys = "accept-new"')
            release = pack_simulated(directory)
            text = (
                text.replace("[fleet]", f"[fleet]\nollama = {json.dumps(str(release))}")
                if "ollama =" not in text
                else text
            )
            (directory / "inventory.toml").write_text(text)
            olladist(directory, "up", "--yes")
            one = next(iter(hosts.hosts))
            results = {}
            for command in (["up", "--yes"], ["status"]):
                results[f"{command[0]}, 1 host"] = median(
                    [olladist(directory, "--limit", one, *command) for _ in range(REPEATS)]
                )
                results[f"{command[0]}, {HOSTS} hosts"] = median(
                    [olladist(directory, *command) for _ in range(REPEATS)]
                )
            with black_hole() as port:
                with (directory / "inventory.toml").open("a") as inventory:
                    inventory.write(f'\n[hosts.gone]\naddress = "127.0.0.1"\nport = {port}\n')
                but_one = f"!{one}"  # so that they are as many as before
                times = [olladist(directory, "--limit", but_one, "status", status=1) for _ in range(REPEATS)]
                results[f"status, {HOSTS} hosts, one of them drops every packet"] = median(times)
            olladist(directory, "--limit", "!gone", "down", "--yes")
        return results


def table(results: dict[str, Times]) -> str:
    rows = [[name, f"{times.wall:.2f} s", f"{times.cpu:.2f} s"] for name, times in results.items()]
    text = markdown.table(["command, nothing to change", "wall", "CPU of olladist"], rows)
    one, many = results["up, 1 host"], results[f"up, {HOSTS} hosts"]
    return f"{text}\n\n`up` on {HOSTS} hosts against one: {many.wall / one.wall:.1f} times the wall time."
