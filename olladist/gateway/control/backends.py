"""The backends an inventory stands for: one for each Ollama instance on each host."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from olladist.inventory.model import Connection, Host, Instance, Transport
from olladist.ollama.env import slots


@dataclass(frozen=True, slots=True)
class Backend:
    """An Ollama instance and how the gateway reaches it.

    `address` is "unix:/path" or "host:port" as in gateway.lease; `tunnel` is the path of the socket in the first case. `id` is
    never used again for another node while the gateway runs.
    """

    id: int
    node: str
    host: Host
    port: int
    address: str
    slots: int
    tunnel: Path | None = None

    @property
    def url(self) -> str:
        """Base of its URLs; through a tunnel the Host header must be a loopback one (server/routes.go allowedHostsMiddleware)."""
        return f"http://127.0.0.1:{self.port}" if self.tunnel else f"http://{self.address}"

    @property
    def way(self) -> Literal["tunnel", "direct", "local"]:
        """How it is reached."""
        if self.tunnel:
            return "tunnel"
        return "local" if self.host.connection is Connection.LOCAL else "direct"


def node_name(host: Host, instance: Instance) -> str:
    """The host's name, with the port where the host has several instances."""
    return host.name if len(host.instances) == 1 else f"{host.name}:{instance.port}"


def backends_of(
    hosts: Iterable[Host], transport: Transport, tunnels: Path, ids: Mapping[str, int]
) -> tuple[Backend, ...]:
    """The backends of `hosts`; sockets of tunnels lie in `tunnels`. `ids` are those given to nodes before."""
    backends = []
    following = max(ids.values(), default=-1) + 1
    for host in hosts:
        for instance in host.instances:
            node = node_name(host, instance)
            number = ids.get(node, following)
            following = max(following, number + 1)
            backends.append(_backend(number, node, host, instance, transport, tunnels))
    return tuple(backends)


def _backend(number: int, node: str, host: Host, instance: Instance, transport: Transport, tunnels: Path) -> Backend:
    parallel = slots({**host.env, **instance.env})
    if host.connection is Connection.LOCAL:
        return Backend(number, node, host, instance.port, f"127.0.0.1:{instance.port}", parallel)
    if transport is Transport.DIRECT:
        address = f"[{host.address}]" if ":" in host.address else host.address
        return Backend(number, node, host, instance.port, f"{address}:{instance.port}", parallel)
    # The number, not the node's name: a socket's path has 108 bytes at most (unix(7)).
    socket = tunnels / f"{number}.sock"
    return Backend(number, node, host, instance.port, f"unix:{socket}", parallel, socket)
