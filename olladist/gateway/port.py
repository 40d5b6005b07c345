"""The address that the gateway listens on: taken once for all workers, or an error that says who has it."""

import contextlib
import errno
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from olladist.errors import GatewayError

_LISTEN = "0A"  # include/net/tcp_states.h

T = TypeVar("T")


def reserve(host: str, port: int, count: int = 1) -> tuple[socket.socket, ...]:
    """`count` bound sockets that share one port (0: any free one) by SO_REUSEPORT, and do not listen yet.

    They belong to the supervisor and outlive the workers that accept from them: what waits in the queue of one is not lost with its
    worker. A first try without sharing finds out whether somebody listens there, for a gateway of the same user would share
    gladly. Raises GatewayError.
    """
    sockets: list[socket.socket] = []
    try:
        alone, address = _unbound(host, port)
        with alone:
            alone.bind(address)
            taken = alone.getsockname()[1]
        # macOS gives all connections to one of those who share, so that there one must do for all.
        sockets.extend(bound(host, taken) for _ in range(count if sys.platform == "linux" else 1))
    except OSError as problem:
        for made in sockets:
            made.close()
        raise _cannot_listen(host, port, problem) from problem
    return tuple(sockets)


def bound(host: str, port: int) -> socket.socket:
    """A socket that shares its port. Raises OSError.

    Accepted sockets inherit its keepalive: a client whose machine was switched off frees its slot after a minute.
    """
    sock, address = _unbound(host, port)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if sys.platform == "linux":
            for option, value in ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3)):
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def dealt(sockets: Sequence[T], workers: int) -> list[tuple[T, ...]]:
    """What each of `workers` listens on: every socket has somebody, and nobody has none; where there are too few they are shared."""
    return [tuple(sockets[n::workers]) or (sockets[n % len(sockets)],) for n in range(workers)]


def _unbound(host: str, port: int) -> tuple[socket.socket, Any]:
    """A socket and its address, in the form that its family wants."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return sock, address


def _cannot_listen(host: str, port: int, problem: OSError) -> GatewayError:
    if problem.errno == errno.EADDRINUSE:
        owner = listener(port)
        if owner.startswith("ollama "):
            return GatewayError(
                f"cannot listen on {host}:{port}: an Ollama of this machine does ({owner})",
                hint="stop it (`systemctl stop ollama`), or give the gateway another address with --listen",
            )
        return GatewayError(
            f"cannot listen on {host}:{port}: {owner or 'another process'} does",
            hint="stop that, or give the gateway another address with --listen",
        )
    hints = {
        errno.EACCES: "ports below 1024 need root; give the gateway another address with --listen",
        errno.EADDRNOTAVAIL: "give an address of this machine with --listen; `ip address` lists them",
    }
    hint = hints.get(problem.errno or 0, "give the gateway another address with --listen")
    return GatewayError(f"cannot listen on {host}:{port}: {problem.strerror or problem}", hint=hint)


def listener(port: int) -> str:
    """Who listens on a TCP port of this machine, as "name (pid 123)"; "" where it cannot be seen (another user's; not Linux)."""
    inodes = {f"socket:[{inode}]" for table in ("tcp", "tcp6") for inode in _inodes(Path("/proc/net") / table, port)}
    if not inodes:
        return ""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(str(descriptor.readlink()) in inodes for descriptor in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return ""


def _inodes(table: Path, port: int) -> list[str]:
    try:
        rows = [line.split() for line in table.read_text().splitlines()[1:]]
    except OSError:
        return []
    return [row[9] for row in rows if row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) == port]
