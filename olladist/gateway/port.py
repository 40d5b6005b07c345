"""The address that the gateway listens on: taken once for all workers, or an error that says who has it."""

import contextlib
import errno
import socket
from pathlib import Path

from olladist.errors import GatewayError

_LISTEN = "0A"  # include/net/tcp_states.h


def reserve(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen: it keeps `port` (0: any free one) for workers that share it by SO_REUSEPORT.

    A first try without sharing finds out whether somebody listens there, for a gateway of the same user would share gladly.
    Raises GatewayError.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(address)
            address = alone.getsockname()
        shared = socket.socket(family, kind, protocol)
        try:
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            shared.bind(address)
        except OSError:
            shared.close()
            raise
    except OSError as problem:
        raise _cannot_listen(host, port, problem) from problem
    return shared


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
