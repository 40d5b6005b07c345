"""Which nodes get no new work, by the operator's word; it stands until it is taken back, restarts or not."""

import sqlite3
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

import msgspec
import structlog

from olladist.errors import GatewayError, UsageError
from olladist.gateway.control.declared import Declared
from olladist.gateway.control.dispatcher import Dispatcher
from olladist.gateway.control.upstreams import Upstreams
from olladist.inventory.model import Inventory
from olladist.inventory.select import choose
from olladist.ollama.names import parse_name
from olladist.scheduling.health import State

log = structlog.get_logger()


class DrainedNode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`in_flight`: what still runs there, requests and transfers of models; at 0 the host can be taken away."""

    name: str
    in_flight: int


class Drained(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The nodes that get no new work; `changed` are those that this request has drained or given back.

    `unreachable_models`: what only drained nodes have, and nobody can use meanwhile.
    """

    schema: Literal["olladist.gateway.drain"] = "olladist.gateway.drain"
    version: Literal[1] = 1
    nodes: tuple[DrainedNode, ...]
    changed: tuple[str, ...]
    unreachable_models: tuple[str, ...]


class Drain:
    """Keeps it in `state` (see state.py), and the roster by it."""

    def __init__(
        self, state: sqlite3.Connection, declared: Declared, dispatcher: Dispatcher, upstreams: Upstreams
    ) -> None:
        self._state = state
        self._declared = declared
        self._dispatcher = dispatcher
        self._roster = dispatcher.roster
        self._upstreams = upstreams
        self._roster.drain([row[0] for row in state.execute("SELECT node FROM drained")])

    def drain(self, words: Sequence[str], *, force: bool) -> Drained:
        """UsageError for a word that means nobody; GatewayError where a model would have no holder left, unless `force`."""
        wanted = self._nodes(words)
        new = [node for node in wanted if node not in self._roster.drained]
        stranded = self._stranded({*self._roster.drained, *new}) - self._stranded(self._roster.drained)
        if stranded and not force:
            raise GatewayError(
                f"nobody else has {_some(stranded)}: with {', '.join(new)} drained requests for it would fail",
                hint="bring it to another host (`olladist models sync`, `ollama pull`), or drain with --force",
            )
        self._state.executemany("INSERT OR IGNORE INTO drained VALUES (?, ?)", [(node, time.time()) for node in new])
        self._set({*self._roster.drained, *new})
        return self.now(new)

    def undrain(self, words: Sequence[str]) -> Drained:
        """UsageError for a word that means nobody."""
        back = [node for node in self._nodes(words, known=self._roster.drained) if node in self._roster.drained]
        self._state.executemany("DELETE FROM drained WHERE node = ?", [(node,) for node in back])
        self._set(self._roster.drained - set(back))
        return self.now(back)

    def now(self, changed: Iterable[str] = ()) -> Drained:
        running = self._dispatcher.ledger.in_flight
        ids = {backend.node: number for number, backend in self._roster.nodes.items()}
        return Drained(
            nodes=tuple(
                DrainedNode(name=node, in_flight=running.get(ids[node], 0) + self._upstreams.streams[ids[node]])
                for node in ids
                if node in self._roster.drained
            ),
            changed=tuple(changed),
            unreachable_models=tuple(sorted(self._stranded(self._roster.drained))),
        )

    def _set(self, nodes: Collection[str]) -> None:
        if self._roster.drained != frozenset(nodes):
            log.warning("drained nodes have changed", nodes=sorted(nodes))
        self._roster.drain(nodes)

    def _nodes(self, words: Sequence[str], known: Collection[str] = ()) -> list[str]:
        """`known` may be named too although the inventory has lost them."""
        here = {backend.node: backend.host.name for backend in self._roster.nodes.values()}
        return nodes_meant(words, here, self._declared.inventory, known)

    def _stranded(self, drained: Collection[str]) -> set[str]:
        """The models that some of these have, and nobody else who is not down."""
        there, elsewhere = set[str](), set[str]()
        for number, backend in self._roster.nodes.items():
            seen = self._roster.seen[number]
            if seen.state is not State.DOWN:
                (there if backend.node in drained else elsewhere).update(seen.keys)
        return {str(parse_name(key)) for key in there - elsewhere}


def nodes_meant(
    words: Sequence[str], nodes: Mapping[str, str], inventory: Inventory, known: Collection[str] = ()
) -> list[str]:
    """The nodes that `words` name: a node itself, or a pattern of hosts and groups, for all of a host's nodes.

    `nodes` are the nodes with their hosts. UsageError for a word that is neither.
    """
    if not words:
        raise UsageError("no host is named", hint="gpu1, or gpu1:11435 for one of several instances")
    meant: set[str] = set()
    for word in words:
        if word in nodes or word in known:
            meant.add(word)
        else:
            hosts = choose(set(nodes.values()), inventory.groups, [word])
            meant.update(node for node, host in nodes.items() if host in hosts)
    return [*(node for node in nodes if node in meant), *sorted(meant - nodes.keys())]


def _some(models: Collection[str]) -> str:
    names = sorted(models)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
