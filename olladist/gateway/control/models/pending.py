"""What could not be done on nodes that were away: remembered over restarts, and done when a node is back, before its models are listed.

So a model that was deleted stays deleted, whoever was switched off meanwhile.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial

import structlog

from olladist.gateway.control.answers import Row
from olladist.gateway.control.backends import Backend
from olladist.gateway.control.prober import Prober
from olladist.gateway.control.upstreams import Failed, Upstreams, fetch
from olladist.ollama import framing

log = structlog.get_logger()

# Removing the blobs of a large model from a slow disk takes some seconds.
WITHIN = 60.0
_ANSWER_BYTES_MAX = 64 * 2**10


@dataclass(frozen=True, slots=True)
class Deed:
    """`model` (a normalised name) is to go from a node; or, with a `source`, to become what that is.

    `digest` is what the node had under the name when this was asked for: should it have something else by now, somebody has put it
    there since, and it stays.
    """

    node: str
    model: str
    source: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Sifted:
    """What to make of a node's listing: the rows to show, what is still to be done, and what is no longer."""

    rows: tuple[Row, ...]
    due: tuple[Deed, ...] = ()
    settled: tuple[Deed, ...] = ()


def sift(rows: tuple[Row, ...], deeds: Iterable[Deed]) -> Sifted:
    """Pure. A row that is to go, or to become something else, is not shown."""
    digests = {row.key: row.digest for row in rows}
    due: list[Deed] = []
    settled: list[Deed] = []
    for deed in deeds:
        has = digests.get(deed.model, "")
        if deed.source:
            after = digests.get(deed.source, "")
            over = not after or has == after
        else:
            over = not has
        changed = has and has != deed.digest
        (settled if over or changed else due).append(deed)
    hidden = {deed.model for deed in due}
    return Sifted(tuple(row for row in rows if row.key not in hidden), tuple(due), tuple(settled))


class Pending:
    """Keeps the deeds of `state` (table `pending`), and does them as nodes list their models: `sift` is what listings go through."""

    def __init__(
        self, state: sqlite3.Connection, upstreams: Upstreams, prober: Prober, clock: Callable[[], float] = time.time
    ) -> None:
        self._state = state
        self._upstreams = upstreams
        self._prober = prober
        self._clock = clock
        self._deeds: dict[str, dict[str, Deed]] = {}  # by node and model
        self._tasks: dict[Deed, asyncio.Task[None]] = {}
        for row in state.execute("SELECT node, model, source, digest FROM pending ORDER BY since"):
            deed = Deed(*row)
            self._deeds.setdefault(deed.node, {})[deed.model] = deed

    def of(self, node: str) -> tuple[Deed, ...]:
        return tuple(self._deeds.get(node, {}).values())

    def add(self, deed: Deed) -> None:
        """Takes the place of what was to be done about the same model."""
        self._state.execute(
            "INSERT OR REPLACE INTO pending (node, model, source, digest, since) VALUES (?, ?, ?, ?, ?)",
            (deed.node, deed.model, deed.source, deed.digest, self._clock()),
        )
        self._deeds.setdefault(deed.node, {})[deed.model] = deed

    def cancel(self, model: str, nodes: Collection[str] | None = None) -> None:
        """The model is wanted (again): what was still to be done about it, on `nodes` or anywhere, is not done any more."""
        for node, deeds in list(self._deeds.items()):
            if (nodes is None or node in nodes) and (deed := deeds.get(model)):
                self._settle(deed)
                if task := self._tasks.get(deed):
                    task.cancel()

    def sift(self, backend: Backend, rows: tuple[Row, ...]) -> tuple[Row, ...]:
        """The rows of a listing that count; what is due on that node is begun."""
        if backend.node not in self._deeds:
            return rows
        sifted = sift(rows, self.of(backend.node))
        for deed in sifted.settled:
            self._settle(deed)
        for deed in sifted.due:
            if deed not in self._tasks:
                task = asyncio.get_running_loop().create_task(self._do(backend, deed))
                self._tasks[deed] = task
                task.add_done_callback(partial(self._ended, deed))
        return sifted.rows

    async def close(self) -> None:
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _do(self, backend: Backend, deed: Deed) -> None:
        """Once. The node's next listing says whether it is done; where it is not, it begins again."""
        method, path, body = _request(deed)
        try:
            answer = await fetch(
                self._upstreams.unbounded(backend),
                method,
                path,
                content=framing.encode(body),
                bytes_max=_ANSWER_BYTES_MAX,
                within=WITHIN,
            )
        except Failed as failed:
            log.warning("could not be made up for", node=deed.node, change=path, model=deed.model, reason=str(failed))
            return
        if answer.status not in {200, 404}:
            reason = f"{answer.status} {answer.body[:200].decode('utf-8', 'replace')}"
            log.warning("could not be made up for", node=deed.node, change=path, model=deed.model, reason=reason)
            return
        log.info("made up for", node=deed.node, change=path, model=deed.model)
        await self._prober.read_tags([backend.id], WITHIN)

    def _ended(self, deed: Deed, _task: asyncio.Task[None]) -> None:
        self._tasks.pop(deed, None)

    def _settle(self, deed: Deed) -> None:
        self._state.execute("DELETE FROM pending WHERE node = ? AND model = ?", (deed.node, deed.model))
        deeds = self._deeds[deed.node]
        del deeds[deed.model]
        if not deeds:
            del self._deeds[deed.node]


def _request(deed: Deed) -> tuple[str, str, dict[str, str]]:
    if deed.source:
        return "POST", "/api/copy", {"source": deed.source, "destination": deed.model}
    return "DELETE", "/api/delete", {"model": deed.model}
