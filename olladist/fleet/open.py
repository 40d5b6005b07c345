"""Many hosts at once: each is connected when it is first needed, and one that fails is a value in the report."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from olladist.errors import ConnectionLost, HostError
from olladist.fleet.events import Doing, Event, Failed, Finished, Moving, Watch, unwatched
from olladist.inventory.model import Host, Inventory
from olladist.ssh.connections import Connections
from olladist.ssh.prompts import Prompts
from olladist.ssh.runner import Runner

T = TypeVar("T")

# Hosts worked on at a time. Each costs an SSH handshake (about 10 ms of one core) and a few hundred kB; 32 keep the
# operator's core busy while hosts think, and stay below the usual limit of 256 open files on macOS (32 x about 4).
HOSTS_AT_ONCE = 32
# sshd gives up on a login after 120 s (LoginGraceTime); PAM and a slow directory take a few.
LOGIN_SECONDS = 30.0


@dataclass(slots=True)
class Fleet:
    """The hosts a command works on, and how to reach them."""

    inventory: Inventory
    hosts: tuple[Host, ...]
    connections: Connections
    watch: Watch = unwatched

    # What each host is doing right now: what an interrupted command prints.
    under_way: dict[str, str] = field(default_factory=dict)
    connected: dict[str, Runner] = field(default_factory=dict)
    # Hosts that could not be connected. They are not tried, and not reported, a second time in one run.
    lost: dict[str, HostError] = field(default_factory=dict)

    def tell(self, event: Event) -> None:
        """Every event of the work goes through here, so that an interrupted command knows what it left behind.

        That a host failed which nobody has chosen is not told: it was asked for the sake of others.
        """
        match event:
            case Doing():
                self.under_way[event.host] = event.text
            case Moving():
                self.under_way[event.host] = event.what
            case Finished() | Failed():
                self.under_way.pop(event.host, None)
        if not isinstance(event, Failed) or any(host.name == event.host for host in self.hosts):
            self.watch(event)

    async def runner(self, host: Host) -> Runner:
        """The host, connected; the same connection every time, until it is lost."""
        if error := self.lost.get(host.name):
            raise error
        if host.name not in self.connected:
            self.tell(Doing(host.name, "connecting"))
            try:
                self.connected[host.name] = await self.connections.runner(host)
            except HostError as error:
                self.tell(Failed(host.name, error))
                self.lost[host.name] = error
                raise
            self.under_way.pop(host.name, None)
        return self.connected[host.name]

    async def each(
        self,
        work: Callable[[Runner, Host], Awaitable[T]],
        *,
        hosts: Sequence[Host] | None = None,
        limit: int = HOSTS_AT_ONCE,
    ) -> dict[str, T | HostError]:
        """Does `work` on every host at the same time; the result of each, in the order of the hosts.

        A HostError ends the work on its host alone. Anything else concerns them all, or is a defect of ours: it is
        raised once every host is done.
        """
        gate = asyncio.Semaphore(limit)

        async def one(host: Host) -> T | HostError:
            async with gate:
                try:
                    runner = await self.runner(host)
                except HostError as error:
                    return error
                try:
                    return await work(runner, host)
                except HostError as error:
                    if isinstance(error, ConnectionLost):
                        self.connected.pop(host.name, None)
                    self.tell(Failed(host.name, error))
                    return error

        chosen = self.hosts if hosts is None else tuple(hosts)
        results = await asyncio.gather(*map(one, chosen), return_exceptions=True)
        done: dict[str, T | HostError] = {}
        for host, result in zip(chosen, results, strict=True):
            if isinstance(result, BaseException) and not isinstance(result, HostError):
                raise result
            done[host.name] = result
        return done


@asynccontextmanager
async def open_fleet(
    inventory: Inventory,
    hosts: Sequence[Host],
    *,
    prompts: Prompts,
    accept_new: bool = False,
    watch: Watch = unwatched,
    connect_timeout: float | None = None,
    login_timeout: float = LOGIN_SECONDS,
) -> AsyncIterator[Fleet]:
    """The fleet for as long as the context lasts; nothing is connected before it is needed.

    `connect_timeout` in seconds; None: what the ssh configuration says, or 10.
    """
    async with Connections(
        prompts=prompts, accept_new=accept_new, connect_timeout=connect_timeout, login_timeout=login_timeout
    ) as connections:
        yield Fleet(inventory, tuple(hosts), connections, watch)
