"""A model that leaves a host: no new request goes there, those that run finish, then it is deleted."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from olladist.errors import HostError
from olladist.gateway.control.answers import Row
from olladist.gateway.control.backends import Backend
from olladist.gateway.control.moves.copying import list_again
from olladist.gateway.control.moves.hearing import Tell
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.uploads.unspread import Unspread
from olladist.gateway.control.upstreams import Failed, fetch
from olladist.ollama import framing

# Removing the blobs of a large model from a slow disk takes some seconds; a runner is given up in as many.
_DELETE_SECONDS, _UNLOAD_SECONDS = 60.0, 30.0
_ANSWER_BYTES_MAX = 64 * 2**10
# How often it is looked whether the last request has ended: a stream takes seconds or minutes.
_LOOK_EVERY = 0.1


class Leaving:
    """Knows which models are leaving which nodes, and keeps those out of what is known of the nodes' models."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._gone: set[tuple[int, str]] = set()
        self._listed = parts.prober.sift
        parts.prober.sift = self._sift

    async def leave(self, host: str, nodes: Sequence[Backend], key: str, name: str, tell: Tell) -> None:
        """Waits for what runs, however long, then deletes; HostError where the host does not do it."""
        with self._hidden(nodes, key):
            await self._wait(host, nodes, key, tell)
            tell({"status": f"deleting on {host}"})
            await self._unload(nodes, key, name)
            await self._delete(host, nodes[0], name)
        self._owe_no_more(host, key)
        for backend in nodes:
            self._parts.roster.forget(backend.id, key)
            try:
                await list_again(self._parts, backend)
            except Failed:
                continue  # its probes say what is the matter with it

    def _owe_no_more(self, host: str, key: str) -> None:
        """What was still to be copied there."""
        unspread = Unspread(self._parts.state)
        for owed in unspread.all():
            if (owed.host, owed.model) == (host, key):
                unspread.settle(owed)

    @contextmanager
    def _hidden(self, nodes: Sequence[Backend], key: str) -> Iterator[None]:
        pairs = {(backend.id, key) for backend in nodes}
        self._gone |= pairs
        for number, _ in pairs:
            self._parts.roster.forget(number, key)
        try:
            yield
        finally:
            self._gone -= pairs
            for number, _ in pairs:
                self._parts.prober.check_tags(number)

    async def _wait(self, host: str, nodes: Sequence[Backend], key: str, tell: Tell) -> None:
        said = 0
        while running := sum(self._parts.dispatcher.ledger.in_flight_model(key).get(b.id, 0) for b in nodes):
            if running != said:
                tell({"status": f"waiting for {running} request{'s' if running > 1 else ''} on {host}"})
                said = running
            await asyncio.sleep(_LOOK_EVERY)

    async def _unload(self, nodes: Sequence[Backend], key: str, name: str) -> None:
        """As `ollama rm` does first, so that its memory is free at once; no matter if it fails."""
        body = framing.encode({"model": name, "keep_alive": 0})
        for backend in nodes:
            if key in self._parts.roster.seen[backend.id].warm or self._loaded(backend, key):
                self._parts.dispatcher.queue.unloads(backend.id, key)
                try:
                    await self._ask(backend, "POST", "/api/generate", body, _UNLOAD_SECONDS)
                except Failed:
                    continue

    def _loaded(self, backend: Backend, key: str) -> bool:
        return any(row.key == key for row in self._parts.roster.seen[backend.id].loaded)

    async def _delete(self, host: str, backend: Backend, name: str) -> None:
        during = f"deleting {name}"
        try:
            status, text = await self._ask(
                backend, "DELETE", "/api/delete", framing.encode({"model": name}), _DELETE_SECONDS
            )
        except Failed as failed:
            raise HostError(host, during, str(failed), hint=f"ollama rm {name} there") from failed
        if status not in {200, 404}:
            raise HostError(host, during, f"Ollama answered {status}: {text}", hint=f"ollama rm {name} there")

    async def _ask(self, backend: Backend, method: str, path: str, content: bytes, within: float) -> tuple[int, str]:
        client = self._parts.upstreams.unbounded(backend)
        answer = await fetch(client, method, path, content=content, bytes_max=_ANSWER_BYTES_MAX, within=within)
        try:
            said = msgspec.json.decode(answer.body, type=dict[str, object]).get("error", "")
        except (msgspec.DecodeError, UnicodeDecodeError):
            said = answer.body[:200].decode("utf-8", "replace")
        return answer.status, str(said)

    def _sift(self, backend: Backend, rows: tuple[Row, ...]) -> tuple[Row, ...]:
        listed = self._listed(backend, rows)
        return tuple(row for row in listed if (backend.id, row.key) not in self._gone) if self._gone else listed
