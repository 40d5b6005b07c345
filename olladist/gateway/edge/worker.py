"""What all connections of one worker share."""

import asyncio
import resource
import socket
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from olladist.gateway.edge.backends import Backends
from olladist.gateway.edge.bounds import Bodies, Connections, affordable
from olladist.gateway.edge.door import Door
from olladist.gateway.edge.leases import Leases
from olladist.gateway.edge.origins import Hosts, Origins
from olladist.gateway.exposure import is_loopback, is_own_address
from olladist.gateway.settings import Settings
from olladist.ollama.routes import ROUTES, Meaning, ModelIn, Route, find


@dataclass(slots=True)
class Worker:
    settings: Settings
    loop: asyncio.AbstractEventLoop
    backends: Backends
    leases: Leases
    door: Door = field(init=False)
    connections: Connections = field(init=False)
    bodies: Bodies = field(init=False)
    draining: bool = False  # each connection ends with the answer that it gets next
    leaving: bool = False  # and one that has not asked for anything ends now
    counts: Counter[str] = field(default_factory=Counter)  # of lease.COUNTED, since the last Tally
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        settings = self.settings
        hosts = Hosts(socket.gethostname(), is_own_address) if is_loopback(settings.listen_host) else None
        self.door = Door(Origins(settings.origins), hosts, settings.admin_digest)
        limits, (descriptors, _) = settings.limits, resource.getrlimit(resource.RLIMIT_NOFILE)
        self.connections = Connections(affordable(limits.connections, descriptors), limits.connections_per_address)
        self.bodies = Bodies(limits.bodies)

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that is kept until it ends; for connecting, never for a request's bytes."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


# What takes a slot of one backend. Everything else is the control process' to answer.
_LEASED: Final = {
    (method.encode(), route.path): route
    for route in ROUTES
    if route.meaning is Meaning.ONE_BACKEND and route.inference and route.model_in in {ModelIn.BODY, ModelIn.FORM}
    for method in route.methods
}


def leased_route(method: bytes, path: str) -> Route | None:
    """The route of a request that needs a lease; None where the control process answers."""
    route = _LEASED.get((method, path))
    if route is None and "%" in path:
        found = find(method.decode("ascii"), path)
        route = found if found in _LEASED.values() else None
    return route
