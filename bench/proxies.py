"""How each proxy is started before stub backends: configurations that do the same, as fast as each can."""

import contextlib
import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from bench import cpu
from bench.processes import PROXY_CORE, free_port, running
from olladist import is_compiled
from olladist.gateway.access import digest_of

# Clients show one to every proxy; ours judges it, the others pass it on.
KEYS = ("sk-bench-000000000000000000000000000000", "sk-bench-111111111111111111111111111111")
KEY = KEYS[0]
# Who shows this to ours may read its metrics.
ADMIN = "bench-admin-000000000000000000000000000"


@dataclass(frozen=True, slots=True)
class Proxy:
    """One that runs and serves."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    directory: Path

    def pids(self) -> list[int]:
        return cpu.tree(self.process.pid)


def haproxy(
    directory: Path, port: int, backends: Sequence[int], workers: int, slots: int = 10_000, *, checks: bool = False
) -> list[str]:
    """Its statistics are read from `stats` in the directory; with `checks` it asks each backend for its version every two seconds."""
    check = "check inter 2s " if checks else ""
    servers = "\n".join(f"  server b{n} 127.0.0.1:{b} {check}maxconn {slots}" for n, b in enumerate(backends))
    config = f"""global
  maxconn 11000
  no strict-limits
  nbthread {workers}
  stats socket {directory}/stats
defaults
  mode http
  option http-no-delay
  timeout connect 5s
  timeout queue 600s
  timeout client 600s
  timeout server 600s
frontend f
  bind 127.0.0.1:{port}
  default_backend b
backend b
  balance roundrobin
  http-reuse always
  {"option httpchk GET /api/version" if checks else ""}
{servers}
"""
    (directory / "haproxy.cfg").write_text(config)
    return ["haproxy", "-db", "-f", str(directory / "haproxy.cfg")]


def nginx(directory: Path, port: int, backends: Sequence[int], workers: int) -> list[str]:
    servers = "\n".join(f"    server 127.0.0.1:{b};" for b in backends)
    config = f"""daemon off; worker_processes {workers}; pid {directory}/nginx.pid; error_log stderr warn;
events {{ worker_connections 20000; }}
http {{
  access_log off; client_body_temp_path {directory}/body; proxy_temp_path {directory}/temp;
  upstream b {{ {servers} keepalive 512; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096{" reuseport" if workers > 1 else ""}; keepalive_requests 1000000;
    location / {{
      proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; proxy_read_timeout 600s;
    }}
  }}
}}
"""
    (directory / "nginx.conf").write_text(config)
    return ["nginx", "-e", "stderr", "-p", str(directory), "-c", str(directory / "nginx.conf")]


def aiohttp(directory: Path, port: int, backends: Sequence[int], workers: int) -> list[str]:
    return [sys.executable, "-m", "bench.plain", str(port), *map(str, backends)]


def olladist(directory: Path, port: int, backends: Sequence[int], workers: int) -> list[str]:
    """With an API key, and with slots for all, so that nothing waits in its queue."""
    inventory = inventory_of(backends, slots=10_000)
    return olladist_with(directory, port, inventory, workers)


def interpreted(directory: Path, port: int, backends: Sequence[int], workers: int) -> list[str]:
    """The same from the sources that stand here, as an editable install has it and a machine without a C compiler."""
    return ["env", "-u", "PYTHONPATH", "-u", "PYTHONSAFEPATH", *olladist(directory, port, backends, workers)]


def inventory_of(backends: Sequence[int], slots: int) -> str:
    instances = ", ".join(f"{{ port = {b} }}" for b in backends)
    return f"""[fleet]
name = "bench"
ollama = "0.17.4"
[hosts.here]
connection = "local"
env = {{ OLLAMA_NUM_PARALLEL = {slots} }}
instances = [{instances}]
"""


def olladist_with(directory: Path, port: int, inventory: str, workers: int, *options: str) -> list[str]:
    path = directory / "inventory.toml"
    keys = [f'[gateway.keys.bench{n}]\nsha256 = "{digest_of(key.encode())}"' for n, key in enumerate(KEYS)]
    path.write_text("\n".join([inventory, *keys, ""]))
    words = [sys.executable, "-m", "olladist", "-i", str(path), "proxy", "--listen", f"127.0.0.1:{port}"]
    return [*words, "--workers", str(workers), *options]


# The command line, out of the directory, its port, the backends' ports and the number of workers.
Make: TypeAlias = Callable[[Path, int, Sequence[int], int], list[str]]

PROXIES: dict[str, Make] = {
    "olladist": olladist,
    "interpreted": interpreted,
    "HAProxy": haproxy,
    "nginx": nginx,
    "aiohttp": aiohttp,
}


def available(only: Sequence[str]) -> list[str]:
    """The proxies that this machine has, of those asked for (all: none asked for)."""
    wanted = {word.lower() for word in only}
    if unknown := wanted - {name.lower() for name in PROXIES}:
        raise SystemExit(f"no such proxy: {', '.join(sorted(unknown))}")
    names = [name for name in PROXIES if not wanted or name.lower() in wanted]
    here = [name for name in names if _is_here(name)]
    if missing := set(names) - set(here):
        print(f"not on this machine: {', '.join(sorted(missing))}", file=sys.stderr)
    return here


def _is_here(name: str) -> bool:
    if name == "olladist":
        return True
    if name == "interpreted":
        return is_compiled()
    return bool(importlib.util.find_spec("aiohttp") if name == "aiohttp" else shutil.which(name.lower()))


@contextlib.contextmanager
def started(
    name: str, directory: Path, backends: Sequence[int], *, workers: int = 1, make: Make | None = None
) -> Iterator[Proxy]:
    """One that answers already, on the core for proxies; `make` gives its command line in place of the usual."""
    directory.mkdir()
    port = free_port()
    with serving(name, directory, port, (make or PROXIES[name])(directory, port, backends, workers)) as proxy:
        yield proxy


@contextlib.contextmanager
def serving(
    name: str, directory: Path, port: int, words: list[str], environ: Mapping[str, str] | None = None
) -> Iterator[Proxy]:
    """Runs `words` and waits until a request is answered; of the operator's own state it sees nothing."""
    env = {"HOME": str(directory), "XDG_STATE_HOME": "", "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": ""}
    env |= {"OLLAMA_ADMIN_TOKEN": ADMIN, **(environ or {})}
    log = directory / "log"
    with running([shutil.which("taskset") or "taskset", "-c", str(PROXY_CORE), *words], port, log, env=env) as process:
        _wait_for_answer(port, log)
        yield Proxy(name, port, process, directory)


def _wait_for_answer(port: int, log: Path, seconds: float = 30) -> None:
    """A listening socket is not enough: models have to be known first."""
    body = json.dumps({"model": "stub", "prompt": "", "stream": False}).encode()
    head = f"POST /api/generate HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    deadline, pause, said = time.monotonic() + seconds, threading.Event(), b""
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as asking:
            asking.sendall(head.encode() + body)
            said = asking.recv(1000)
            if b" 200 " in said.split(b"\r\n", 1)[0]:
                return
        pause.wait(0.05)
    raise RuntimeError(f"no answer through port {port}, but {said!r}: {log.read_text()[-2000:]}")
