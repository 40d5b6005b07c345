"""Reads the inventory again and takes over all of it at once, or nothing; no stream that runs notices."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Final, Literal

import msgspec
import structlog

from olladist.errors import InventoryError, OlladistError
from olladist.gateway.control.backends import Backend, Role, backends_of
from olladist.gateway.control.declared import Declaration, Declared, keep, kept_keys_path, read_declaration
from olladist.gateway.control.dispatcher import Dispatcher
from olladist.gateway.control.keys import Keys
from olladist.gateway.control.lease_server import LeaseServer
from olladist.gateway.lease import Key
from olladist.gateway.settings import Settings
from olladist.inventory.model import Gateway

log = structlog.get_logger()

# What a process gets at its start, and cannot change: the sockets, and what workers refuse by.
_AT_START: Final = ("listen", "workers", "tls_cert", "tls_key", "origins")


class Changed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A setting, a node, or a key, in words: "" where there was none, or is none."""

    name: str
    before: str
    after: str


class Reloaded(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a reload has changed. `needs_restart`: what the inventory says now and this gateway does not do."""

    schema: Literal["olladist.gateway.reload"] = "olladist.gateway.reload"
    version: Literal[1] = 1
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[Changed, ...]
    settings: tuple[Changed, ...]
    needs_restart: tuple[Changed, ...]


class NotReloaded(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why nothing was changed: `problems` of the inventory, each with its line, or something else that `error` says."""

    schema: Literal["olladist.gateway.not-reloaded"] = "olladist.gateway.not-reloaded"
    version: Literal[1] = 1
    error: str
    hint: str
    path: str = ""
    problems: tuple["Problem", ...] = ()


class Problem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    line: int
    key: str
    text: str
    hint: str


class Reload:
    """Takes over one inventory after the other; `declared` holds the present one."""

    def __init__(
        self, settings: Settings, declared: Declared, dispatcher: Dispatcher, keys: Keys, leases: LeaseServer
    ) -> None:
        self._settings = settings
        self._declared = declared
        self._dispatcher = dispatcher
        self._roster = dispatcher.roster
        self._keys = keys
        self._leases = leases
        self._ids: dict[str, int] = {}
        self._one_at_a_time = asyncio.Lock()
        declared.listeners.append(lambda _: self.apply())

    def apply(self) -> None:
        """Has the roster hold what is declared, under the numbers that nodes have had."""
        now = self._declared.now
        tunnels = Path(self._settings.run_dir) / "tunnels"
        local = self._roster.serving.local
        self._ids = numbered(
            self._ids, self._roster.backends.values(), backends_of(now.hosts, now.transport, tunnels, self._ids, local)
        )
        self._roster.swap(backends_of(now.hosts, now.transport, tunnels, self._ids, local))
        self._dispatcher.queue.resize()
        self._dispatcher.priorities = {name: key.priority for name, key in self._keys.declared.items() if key.priority}
        self._dispatcher.follow(now.strategy)
        self._leases.new_table()  # which says how workers place that are alone

    async def again(self) -> Reloaded:
        """Reads the inventory again. OlladistError where it cannot be used, and then nothing has changed."""
        async with self._one_at_a_time:
            before, keys, old = self._declared.now, dict(self._keys.known), self._nodes()
            try:
                declaration = await asyncio.to_thread(read_declaration, self._settings)
                self._keys.swap(declaration.inventory.gateway.keys)
            except OlladistError as error:
                log.warning("not reloaded: nothing has changed", problem=error.message, hint=error.hint)
                raise
            keep(self._settings, declaration)
            self._keys.keep(kept_keys_path(self._settings))
            self._leases.set_access(self._keys.access)
            self._declared.replace(declaration)
            new = self._nodes()
            done = Reloaded(
                added=tuple(node for node in new if node not in old),
                removed=tuple(node for node in old if node not in new),
                changed=_changed(old, new),
                settings=(*_settings_changed(before, declaration), *_keys_changed(keys, self._keys.known)),
                needs_restart=at_start_only(self._settings, declaration.inventory.gateway),
            )
        log.warning("reloaded", **{name: len(getattr(done, name)) for name in Reloaded.__struct_fields__[2:]})
        return done

    def _nodes(self) -> dict[str, Backend]:
        return {backend.node: backend for backend in self._roster.nodes.values()}


def numbered(ids: Mapping[str, int], before: Iterable[Backend], after: Iterable[Backend]) -> dict[str, int]:
    """The numbers of `after`, which `ids` holds already or not: one that is reached in another way than before gets a new one.

    So what still runs over the old way is never counted, measured or cut with the new one. Numbers are never given twice.
    """
    known = {backend.node: backend for backend in before if backend.role is Role.NODE}
    given = dict(ids)
    for backend in after:
        if backend.role is not Role.NODE:
            continue
        old = known.get(backend.node)
        if backend.node not in given or (old is not None and old.route != backend.route):
            given[backend.node] = max(given.values(), default=-1) + 1
    return given


def not_reloaded(error: OlladistError) -> NotReloaded:
    problems = error.problems if isinstance(error, InventoryError) else ()
    return NotReloaded(
        error=error.message,
        hint=error.hint,
        path=error.path if isinstance(error, InventoryError) else "",
        problems=tuple(Problem(line=p.line, key=p.key, text=p.text, hint=p.hint) for p in problems),
    )


def at_start_only(settings: Settings, gateway: Gateway) -> tuple[Changed, ...]:
    """What the inventory says that only a gateway which is started anew does."""
    host, _, port = gateway.listen.rpartition(":")
    listens = f"{settings.listen_host}:{settings.listen_port}"
    wanted = {
        "listen": listens if port == "0" and host.strip("[]") == settings.listen_host else f"{host.strip('[]')}:{port}",
        "workers": str(gateway.workers),
        "tls_cert": str(gateway.tls_cert or ""),
        "tls_key": str(gateway.tls_key or ""),
        "origins": ", ".join(sorted(gateway.origins)),
    }
    has = {
        "listen": listens,
        "workers": str(settings.workers),
        "tls_cert": settings.tls_cert,
        "tls_key": settings.tls_key,
        "origins": ", ".join(sorted(settings.origins)),
    }
    return tuple(
        Changed(name=name, before=has[name], after=wanted[name])
        for name in _AT_START
        if name not in settings.given and has[name] != wanted[name]
    )


def _changed(before: Mapping[str, Backend], after: Mapping[str, Backend]) -> tuple[Changed, ...]:
    """The nodes that stay, and are reached in another way or have other slots."""
    return tuple(
        Changed(name=node, before=_reached(before[node]), after=_reached(backend))
        for node, backend in after.items()
        if node in before and (before[node].route, before[node].slots) != (backend.route, backend.slots)
    )


def _reached(backend: Backend) -> str:
    host = backend.host
    login = f" as {host.user}" if host.user and backend.tunnel else ""
    jump = f" by {', '.join(host.jump)}" if host.jump and backend.tunnel else ""
    return f"{backend.way} {host.address}:{backend.port}{login}{jump}, {backend.slots} slots"


def _settings_changed(before: Declaration, after: Declaration) -> tuple[Changed, ...]:
    old, new = _words_of(before), _words_of(after)
    return tuple(Changed(name=n, before=old[n], after=new[n]) for n in new if old[n] != new[n])


def _words_of(declaration: Declaration) -> dict[str, str]:
    gateway = declaration.inventory.gateway
    names = [field.name for field in fields(gateway) if field.name not in {*_AT_START, "keys"}]
    words = {name: _words(getattr(gateway, name)) for name in names}
    # What the command line has said stays, whatever the inventory says.
    words |= {"strategy": declaration.strategy.value, "transport": declaration.transport.value}
    words["models"] = ", ".join(sorted(str(model.name) for model in declaration.inventory.models))
    return words


def _words(value: object) -> str:
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _keys_changed(before: Mapping[str, Key], after: Mapping[str, Key]) -> tuple[Changed, ...]:
    """By name, and never what they are."""
    return tuple(
        Changed(
            name=f"keys.{name}",
            before="a key" if name in before else "",
            after="" if name not in after else "another key, or other rights" if name in before else "a key",
        )
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    )
