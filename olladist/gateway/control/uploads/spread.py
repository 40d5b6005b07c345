"""Brings what one host has created to the others that shall have it, at once or when they are back."""

import asyncio
from collections.abc import Iterable

import structlog

from olladist.errors import OlladistError, SudoRefused
from olladist.gateway.control.backends import Backend, Role
from olladist.gateway.control.models.targets import Targets, placement, pull_targets, stores
from olladist.gateway.control.moves.copying import copy_model, list_again, nodes_of, sha256
from olladist.gateway.control.moves.hearing import Tell
from olladist.gateway.control.moves.stores import why
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.roster import Change
from olladist.gateway.control.uploads.unspread import Owed, Unspread
from olladist.gateway.control.upstreams import Failed
from olladist.ollama.digests import Digest
from olladist.scheduling.health import State

# A host whose Ollama answers but whose sshd did not, or whose disk was full, is tried again after this time.
_AGAIN = 300.0

_LATER = "; it gets the model when it can be reached again"

log = structlog.get_logger()


class Spreader:
    """`run` it once: it waits for hosts to come back."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._unspread = Unspread(parts.state)
        self._back = asyncio.Event()
        parts.roster.listeners.append(self._changed)

    async def created(self, key: str, builder: Backend, tell: Tell) -> None:
        """What `builder` has under that name is what all shall have. What cannot be done now is told, and done later."""
        # The name means something new: what was to be copied, or deleted, under it is not any more.
        self._unspread.cancel(key)
        self._parts.pending.cancel(key)
        try:
            digest = await self._digest(key, builder)
        except Failed as failed:
            tell({"status": f"not copied to other hosts: {builder.node} does not say what it has made ({failed})"})
            return
        if builder.role is Role.NODE:
            await self._spread(key, digest, builder, tell)

    async def _spread(self, key: str, digest: Digest, builder: Backend, tell: Tell) -> None:
        due = self._targets(key)
        now = [store.host for store in due.now if store.host != builder.host.name]
        for host in (*now, *(store.host for store in due.away)):
            self._unspread.owe(Owed(host, key, digest))
        for store in due.away:
            tell({"status": f"not done on {store.host}: it is down: {store.why}{_LATER}"})
        if now:
            failed = await self._copy(key, digest, builder.host.name, now, tell)
            for host, error in failed.items():
                outlook = "" if isinstance(error, SudoRefused) else _LATER
                tell({"status": f"not done on {host}: {why(error)}{outlook}"})

    async def run(self) -> None:
        """Gives hosts what they are owed once they are back."""
        while True:
            self._back.clear()
            for owed in self._unspread.all():
                await self._finish(owed)
            try:
                async with asyncio.timeout(_AGAIN):
                    await self._back.wait()
            except TimeoutError:
                continue

    async def _copy(
        self, key: str, digest: str, source: str, targets: Iterable[str], tell: Tell
    ) -> dict[str, OlladistError]:
        targets = tuple(targets)
        try:
            failed = await copy_model(self._parts, key, digest, source, targets, tell)
        except OlladistError as error:
            failed = dict.fromkeys(targets, error)
        for host in targets:
            if host not in failed or isinstance(failed[host], SudoRefused):
                self._unspread.settle(Owed(host, key, digest))
        for host, problem in failed.items():
            log.warning("model not copied", model=key, host=host, reason=why(problem))
        return failed

    async def _finish(self, owed: Owed) -> None:
        """Copies what a host is owed, where it is back and somebody still has it."""
        if owed.host not in self._parts.declared.inventory.hosts:
            self._unspread.settle(owed)
            return
        if not any(self._lives(backend) for backend in nodes_of(self._parts, owed.host)):
            return
        having = [backend for backend in self._parts.roster.nodes.values() if self._lists(backend, owed)]
        hosts = {backend.host.name for backend in having}
        if owed.host in hosts or (not hosts and not self._unheard()):
            self._unspread.settle(owed)
        elif source := next((backend.host.name for backend in having if self._lives(backend)), None):
            failed = await self._copy(owed.model, owed.digest, source, (owed.host,), lambda _: None)
            if not failed:
                log.info("model copied to a host that is back", model=owed.model, host=owed.host)

    def _targets(self, key: str) -> Targets:
        """As for a pull: who shall have it, and who has something of that name."""
        inventory = self._parts.declared.inventory
        found = stores(self._parts.roster, Role.NODE, key)
        names = [model.name.key for model in inventory.models]
        return pull_targets(found, placement(inventory, key), inventory.gateway.replicas, names)

    async def _digest(self, key: str, builder: Backend) -> str:
        for row in await list_again(self._parts, builder):
            if row.key == key:
                return sha256(row.digest)
        raise Failed("it does not list it")

    def _lives(self, backend: Backend) -> bool:
        return self._parts.roster.seen[backend.id].state is not State.DOWN

    def _lists(self, backend: Backend, owed: Owed) -> bool:
        rows = self._parts.roster.seen[backend.id].tags
        return any(row.key == owed.model and sha256(row.digest) == owed.digest for row in rows)

    def _unheard(self) -> bool:
        """Whether some node has not said yet what it has: it may be the one that still has the model."""
        return any(seen.tags_read < 0 for n, seen in self._parts.roster.seen.items() if n in self._parts.roster.nodes)

    def _changed(self, change: Change) -> None:
        """A node that has come back, and has listed what it has."""
        before, after = change.before, change.after
        if before and after and after.state is not State.DOWN and (before.state is State.DOWN or before.tags_read < 0):
            self._back.set()
