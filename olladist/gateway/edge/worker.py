"""What all connections of one worker share."""

import asyncio
import resource
import socket
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from olladist.gateway.edge.backends import Backends
from olladist.gateway.edge.bounds import Bodies, Connections, affordable
from olladist.gateway.edge.door import Door
from olladist.gateway.edge.heads import Heads
from olladist.gateway.edge.kept import Allowance
from olladist.gateway.edge.leases import Leases
from olladist.gateway.edge.origins import Hosts, Origins
from olladist.gateway.exposure import is_loopback, is_own_address
from olladist.gateway.settings import Settings


@dataclass(slots=True)
class Worker:
    settings: Settings
    loop: asyncio.AbstractEventLoop
    backends: Backends
    leases: Leases
    heads: Heads = field(init=False)
    connections: Connections = field(init=False)
    bodies: Bodies = field(init=False)
    draining: bool = False  # each connection ends with the answer that it gets next
    leaving: bool = False  # and one that has not asked for anything ends now
    keeping: Allowance = field(default_factory=Allowance)
    counts: Counter[str] = field(default_factory=Counter)  # of lease.COUNTED, since the last Tally
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        settings = self.settings
        hosts = Hosts(socket.gethostname(), is_own_address) if is_loopback(settings.listen_host) else None
        self.heads = Heads(Door(Origins(settings.origins), hosts, settings.admin_digest))
        limits, (descriptors, _) = settings.limits, resource.getrlimit(resource.RLIMIT_NOFILE)
        self.connections = Connections(affordable(limits.connections, descriptors), limits.connections_per_address)
        self.bodies = Bodies(limits.bodies)

    def may_keep(self) -> bool:
        """One answer more, of those that clients have not asked to be kept."""
        return self.keeping.take(self.loop.time())

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that is kept until it ends; for connecting, never for a request's bytes."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
