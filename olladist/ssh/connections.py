"""All connections of a run: who may start when, which bastion is shared, what is closed at the end."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from olladist.errors import HostError
from olladist.inventory.model import Connection, Host, HostKeys
from olladist.places import state_dir
from olladist.ssh.config import SshConfig, Target
from olladist.ssh.dial import TryAgain
from olladist.ssh.keyring import Keyring
from olladist.ssh.local import LocalRunner
from olladist.ssh.login import Link, Login
from olladist.ssh.openssh import OpenSSH
from olladist.ssh.prompts import NO_PROMPTS, Prompts, one_at_a_time
from olladist.ssh.remote import SSHRunner, Ways
from olladist.ssh.runner import Runner
from olladist.ssh.sudo import SudoPassword
from olladist.ssh.trust import Trust

# sshd drops one login in three once 10 are under way (sshd_config(5), MaxStartups 10:30:100); 2 are left for others.
STARTS = 8
_TRIES = 3


def pause_before(attempt: int, chance: float) -> float:
    """Seconds before try number `attempt` from 0; `chance` in [0, 1) spreads those that were dropped together."""
    return 0.0 if attempt == 0 else 0.5 * 2 ** (attempt - 1) * (0.5 + chance)


class Connections:
    """Opens connections to hosts; use it as a context, which closes them all.

    `state` holds our known_hosts; `ssh_config` stands for ~/.ssh/config and the system's, as `ssh -F` does;
    `connect_timeout` None is what the ssh configuration says, or 10 s.
    """

    def __init__(
        self,
        *,
        prompts: Prompts = NO_PROMPTS,
        accept_new: bool = False,
        state: Path | None = None,
        ssh_config: Path | None = None,
        connect_timeout: float | None = None,
        login_timeout: float = 30.0,
        openssh: str | None = None,
    ) -> None:
        asked = one_at_a_time(prompts)
        self._config = SshConfig(ssh_config)
        self._keyring = Keyring(asked)
        trust = Trust((state or state_dir()) / "known_hosts", asked, accept_new=accept_new)
        self._login = Login(trust, self._keyring, connect_timeout=connect_timeout, login_timeout=login_timeout)
        self._password = SudoPassword(asked)
        self._openssh = OpenSSH(self._keyring, openssh)
        self.ways = Ways(self._openssh, self._starting, lambda attempt: pause_before(attempt, random.random()))  # noqa: S311
        self._gates: dict[tuple[str, Target], asyncio.Semaphore] = {}
        self._bastions: dict[tuple[Target, ...], asyncio.Task[Link]] = {}
        self._links: set[Link] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(link.close() for link in self._links))
        for task in reversed(self._bastions.values()):
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled() and not task.exception():
                await task.result().close()
        await self._keyring.close()
        await self._openssh.close()

    async def runner(self, host: Host) -> Runner:
        """The host, connected; a connection of its own each time. Raises HostErrors."""
        if host.connection is Connection.LOCAL:
            return LocalRunner(host.name, self._password)
        return SSHRunner(host.name, await self.link(host), self._password, self.ways)

    async def link(self, host: Host) -> Link:
        """A new connection to a host that is not local; who asked closes it."""
        *hops, target = self._config.route(host)
        via = await self._bastion(host, tuple(hops)) if hops else None
        link = await self._open(host.name, host.host_keys, target, via)
        self._links = {each for each in self._links if each.alive()} | {link}
        return link

    async def _bastion(self, host: Host, hops: tuple[Target, ...]) -> Link:
        """The one connection to the last of `hops` that all hosts behind it share; opened again where it has been lost."""
        task = self._bastions.get(hops)
        if task is None or (task.done() and (task.cancelled() or task.exception() or not task.result().alive())):
            task = self._bastions[hops] = asyncio.create_task(self._open_bastion(host, hops))
        try:
            return await asyncio.shield(task)
        except HostError as error:
            # It was opened in the name of the first host that needed it.
            raise type(error)(host.name, error.during, error.cause, hint=error.hint) from error

    async def _open_bastion(self, host: Host, hops: tuple[Target, ...]) -> Link:
        via = await self._bastion(host, hops[:-1]) if hops[1:] else None
        return await self._open(host.name, host.host_keys, hops[-1], via)

    async def _open(self, host: str, policy: HostKeys, target: Target, via: Link | None) -> Link:
        """Logs in, up to three times where sshd drops us because too many come at once."""
        for attempt in range(_TRIES):
            await asyncio.sleep(self.ways.pause(attempt))
            try:
                async with self._gate(target, via):
                    return await self._login.open(host, policy, target, via)
            except TryAgain as error:
                last = error
        raise last

    def _starting(self, link: Link) -> contextlib.AbstractAsyncContextManager[None]:
        return self._gate(link.target, link.via)

    @asynccontextmanager
    async def _gate(self, target: Target, via: Link | None) -> AsyncIterator[None]:
        """One of the starts at once of this sshd, and of those through its bastion."""
        async with contextlib.AsyncExitStack() as stack:
            if via:
                await stack.enter_async_context(self._semaphore("through", via.target))
            await stack.enter_async_context(self._semaphore("to", target))
            yield

    def _semaphore(self, way: str, target: Target) -> asyncio.Semaphore:
        return self._gates.setdefault((way, target), asyncio.Semaphore(STARTS))
