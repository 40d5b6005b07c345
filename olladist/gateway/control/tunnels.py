"""The tunnels to the backends that are reached through one: opened as backends come, closed as they go."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from olladist.gateway.control.backends import Backend
from olladist.gateway.control.roster import Change, Roster
from olladist.ssh.connections import Connections
from olladist.ssh.prompts import Prompts
from olladist.ssh.tunnel import Tunnel

# A tunnel whose backend has left the inventory stays for what runs through it. The bound is for a lease that nobody ends: no answer
# takes as long.
_LOOK_EVERY: Final = 0.25
_LOOKS: Final = 4 * 3600


class Unattended:
    """Prompts without a person: every question is answered with no, and it is remembered who would have been asked about."""

    def __init__(self) -> None:
        self.unknown_keys: set[str] = set()
        self.prompts = Prompts(accept_host_key=self._refuse)

    async def _refuse(self, host: str, address: str, key_type: str, fingerprint: str) -> bool:
        self.unknown_keys.add(host)
        return False


@dataclass(slots=True)
class _Kept:
    tunnel: Tunnel
    task: asyncio.Task[None]
    unopened: str  # what the tunnel says before its first try has ended


class Tunnels:
    """Keeps one for each backend of the roster that has a socket, in tasks of the group given.

    The tunnel of one that leaves is closed when nothing is `busy` with it any more. Starts are bounded by `connections`, which has the prompts of `unattended`: all at once, but 8 at a time through one bastion. A host that is away costs only its own.
    """

    def __init__(
        self,
        roster: Roster,
        connections: Connections,
        unattended: Unattended,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._connections = connections
        self._unattended = unattended
        self._group = tasks
        self.busy: Callable[[int], bool] = lambda _: False
        self._kept: dict[int, _Kept] = {}
        self._finishing: set[asyncio.Task[None]] = set()
        roster.listeners.append(self._changed)

    def problem(self, backend: Backend) -> str:
        """Why the way to it is closed, with what to do; "" where it is open, or needs no tunnel."""
        kept = self._kept.get(backend.id)
        if kept is None or kept.tunnel.up:
            return ""
        if self.opening(backend):
            return "is being connected over SSH"
        if backend.host.name in self._unattended.unknown_keys:
            return f"{kept.tunnel.problem}; the gateway asks nobody: `olladist status` asks, run it once"
        return kept.tunnel.problem

    def opening(self, backend: Backend) -> bool:
        """True until the first try has ended, one way or the other."""
        kept = self._kept.get(backend.id)
        return kept is not None and not kept.tunnel.up and kept.tunnel.problem == kept.unopened

    def _changed(self, change: Change) -> None:
        backend = change.backend
        if backend.tunnel is None:
            return
        if change.after is None:
            if kept := self._kept.pop(backend.id, None):
                finishing = self._group.create_task(self._finish(kept, backend.id))
                self._finishing.add(finishing)
                finishing.add_done_callback(self._finishing.discard)
        elif change.before is None:
            tunnel = Tunnel(self._connections, backend.host, backend.port, backend.tunnel)
            self._kept[backend.id] = _Kept(tunnel, self._group.create_task(tunnel.run()), tunnel.problem)

    async def _finish(self, kept: _Kept, number: int) -> None:
        """What runs ends in workers and in other tasks, at most after this many looks."""
        try:
            for _ in range(_LOOKS):
                if not self.busy(number):
                    break
                await asyncio.sleep(_LOOK_EVERY)
        finally:
            kept.task.cancel()

    def close(self) -> None:
        """Ends all of them now, whatever runs there."""
        for kept in self._kept.values():
            kept.task.cancel()
        self._kept.clear()
        for finishing in self._finishing:
            finishing.cancel()
