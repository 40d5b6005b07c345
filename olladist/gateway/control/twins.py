"""Finds names that share a runner although their manifests differ: the same weights under another template or with another licence.

Ollama knows a runner by the files that it has loaded (server/sched.go), and only POST /api/show says which those are. It is asked of models
alone that could be twins: as large as another within what a template takes, and described alike.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

from olladist.gateway.control.answers import Row
from olladist.gateway.control.backends import Backend
from olladist.gateway.control.roster import Change, Roster
from olladist.gateway.control.upstreams import Failed, Upstreams, fetch
from olladist.ollama.modelfile import runner_files
from olladist.scheduling.health import State

# Templates, licences and parameters of one model; weights of two are never so near each other by chance and described alike.
NEAR = 2**20
# As for a show that a client asks for, without the tokens of the vocabulary.
ANSWER_BYTES_MAX = 16 * 2**20
WITHIN = 10.0
# A model whose holders did not answer is asked for again.
AGAIN = 60.0
# Contents that are remembered; when there are more it begins anew.
REMEMBERED_MAX = 10_000


class Model(NamedTuple):
    alike: tuple[Any, ...]
    size: int
    key: str


class Twins:
    """`found` is called with what digests stand for, of those that share their files with another; all of them each time."""

    def __init__(self, roster: Roster, upstreams: Upstreams, found: Callable[[Mapping[str, str]], None]) -> None:
        self._roster = roster
        self._upstreams = upstreams
        self._found = found
        self._models: dict[str, Model] = {}  # by digest
        self._files: dict[str, tuple[str, ...]] = {}  # of those that were asked for
        self._told: Mapping[str, str] = {}
        self._news = asyncio.Event()
        roster.listeners.append(self._changed)
        for number in roster.nodes:
            self._look_at(roster.seen[number].tags)

    async def run(self) -> None:
        """For ever."""
        while True:
            missing = [digest for digest in suspects(self._models) if digest not in self._files]
            with suppress(TimeoutError):
                async with asyncio.timeout(AGAIN if missing else None):
                    await self._news.wait()
            self._news.clear()
            for digest in suspects(self._models):
                if digest not in self._files:
                    await self._ask(digest, self._models[digest].key)
            told = same(self._files)
            if told != self._told:
                self._told = told
                self._found(told)

    async def _ask(self, digest: str, key: str) -> None:
        body = msgspec.json.encode({"model": key})
        for backend in self._holders(digest, key):
            if backend.id not in self._roster.nodes:
                continue
            client = self._upstreams.client(backend)
            try:
                answer = await fetch(
                    client, "POST", "/api/show", content=body, bytes_max=ANSWER_BYTES_MAX, within=WITHIN
                )
                if answer.status == 200:
                    self._files[digest] = runner_files(msgspec.json.decode(answer.body, type=dict[str, Any]))
                    return
            except (Failed, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue

    def _holders(self, digest: str, key: str) -> list[Backend]:
        roster = self._roster
        return [
            roster.nodes[number]
            for number in roster.holders(key)
            if roster.seen[number].state is not State.DOWN and roster.seen[number].digests.get(key) == digest
        ][:3]

    def _changed(self, change: Change) -> None:
        before, after = change.before, change.after
        if after is not None and (before is None or before.digests != after.digests):
            self._look_at(after.tags)

    def _look_at(self, tags: Iterable[Row]) -> None:
        for row in tags:
            if row.digest not in self._models:
                if len(self._models) >= REMEMBERED_MAX:
                    self._models.clear()
                    self._files.clear()
                self._models[row.digest] = _described(row)
                self._news.set()


def suspects(models: Mapping[str, Model]) -> list[str]:
    """Digests of models that are like another in everything that a listing shows, but for a little in size."""
    alike: dict[tuple[Any, ...], list[tuple[int, str]]] = {}
    for digest, model in models.items():
        alike.setdefault(model.alike, []).append((model.size, digest))
    found: dict[str, None] = {}
    for group in alike.values():
        group.sort()
        for (size, digest), (larger, other) in pairwise(group):
            if larger - size <= NEAR:
                found |= {digest: None, other: None}
    return list(found)


def same(files: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """What the digests stand for that have all their files in common with another."""
    names = {digest: "+".join(each) for digest, each in files.items() if each}
    shared = Counter(names.values())
    return {digest: name for digest, name in names.items() if shared[name] > 1}


def _described(row: Row) -> Model:
    details = row.fields.get("details")
    said = details if isinstance(details, dict) else {}
    alike = tuple(str(said.get(name)) for name in ("format", "family", "parameter_size", "quantization_level"))
    return Model(alike, int(row.fields.get("size", 0)), row.key)
