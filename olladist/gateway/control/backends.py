"""Who answers requests: each Ollama instance on each host of the inventory, the Ollama beside the gateway, its own kept answers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal

from olladist.gateway import lease
from olladist.inventory.model import Connection, Host, Instance, Transport
from olladist.ollama.env import slots

# Neither is counted with the nodes, so that they keep their numbers whatever becomes of the inventory.
LOCAL_ID: Final = 2**31 - 1
CACHE_ID: Final = 2**31 - 2
_NODES_MAX: Final = 2**30


class Role(StrEnum):
    """`node`: one of the fleet. `local`: the Ollama beside the gateway. `cache`: answers that the gateway has kept."""

    NODE = "node"
    LOCAL = "local"
    CACHE = "cache"


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
    role: Role = Role.NODE

    @property
    def url(self) -> str:
        """Base of its URLs; through a tunnel the Host header must be a loopback one (server/routes.go allowedHostsMiddleware)."""
        return f"http://127.0.0.1:{self.port}" if self.tunnel else f"http://{self.address}"

    @property
    def route(self) -> tuple[object, ...]:
        """What decides where its requests arrive: while this stays the same, what is known of it counts."""
        host = self.host
        login = (host.user, host.port, host.identity, host.jump, host.host_keys) if self.tunnel else ()
        return self.node, host.name, host.address, host.connection, self.port, self.tunnel is None, self.role, login

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
    hosts: Iterable[Host], transport: Transport, tunnels: Path, ids: Mapping[str, int], local: str = ""
) -> tuple[Backend, ...]:
    """The backends of `hosts`; sockets of tunnels lie in `tunnels`. `ids` are those given to nodes before.

    Last comes the Ollama beside the gateway, where there is one: `local` is its URL.
    """
    backends = []
    ids = {node: number for node, number in ids.items() if number < _NODES_MAX}
    following = max(ids.values(), default=-1) + 1
    for host in hosts:
        for instance in host.instances:
            node = node_name(host, instance)
            number = ids.get(node, following)
            following = max(following, number + 1)
            backends.append(_backend(number, node, host, instance, transport, tunnels))
    if local:
        backends.append(local_backend(local, [backend.node for backend in backends]))
    return tuple(backends)


def local_backend(url: str, nodes: Iterable[str]) -> Backend:
    """The Ollama beside the gateway, which is at `url` (http://HOST:PORT); `nodes` are the names that are taken already."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    node = free_name(Role.LOCAL, nodes)
    here = Host(name=node, address=host.strip("[]"), connection=Connection.LOCAL)
    return Backend(LOCAL_ID, node, here, int(port), f"{host}:{port}", slots({}), role=Role.LOCAL)


def cache_row(api_socket: str, nodes: Iterable[str]) -> lease.Backend:
    """The control process as workers see it when they fetch an answer that it has kept."""
    return lease.Backend(CACHE_ID, free_name(Role.CACHE, nodes), f"unix:{api_socket}", 1, True, (), Role.CACHE.value)


def free_name(role: Role, nodes: Iterable[str]) -> str:
    """What `role` is called beside these nodes: hosts may be called "local" too, but no name of a host has an @ in it."""
    taken = role.value in {node.lower() for node in nodes}
    return f"{role.value}@gateway" if taken else role.value


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
