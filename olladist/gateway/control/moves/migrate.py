"""POST /api/distributed/migrate: one model from one host to another; it leaves the first once the second has it and lists it."""

import difflib
from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from olladist.errors import HostError, OlladistError
from olladist.gateway.control.answers import Row
from olladist.gateway.control.backends import Backend
from olladist.gateway.control.caller import Caller
from olladist.gateway.control.models.progress import SUCCESS
from olladist.gateway.control.moves.changes import Changes, Refused, read
from olladist.gateway.control.moves.copying import copy_model, list_again, nodes_of, sha256
from olladist.gateway.control.moves.describe import migrating, told
from olladist.gateway.control.moves.documents import Migrate, Plan
from olladist.gateway.control.moves.hearing import Tell, heard, streamed
from olladist.gateway.control.moves.leaving import Leaving
from olladist.gateway.control.moves.plan import Remove, plan_copy
from olladist.gateway.control.moves.stores import why
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.rights import must_manage, who
from olladist.gateway.control.upstreams import Failed
from olladist.gateway.control.web import JSON, response
from olladist.inventory.select import hosts_for
from olladist.ollama.digests import Digest
from olladist.ollama.names import split_name
from olladist.scheduling.health import State

RETRY_AFTER = 5


@dataclass(frozen=True, slots=True)
class Move:
    """What was asked for, after all checks. `name` is as the host spells it, `nodes` are its Ollamas that answer."""

    key: str
    name: str
    digest: Digest
    source: str
    nodes: tuple[Backend, ...]
    to: str
    keep: bool

    def __str__(self) -> str:
        return f"{'copying' if self.keep else 'moving'} {self.name} from {self.source} to {self.to}"


class Migrations:
    def __init__(self, parts: Parts, changes: Changes, leaving: Leaving) -> None:
        self._parts = parts
        self._changes = changes
        self._leaving = leaving

    async def answer(self, request: Request) -> Response:
        caller = who(request, self._parts)
        if denied := must_manage(caller):
            return denied
        try:
            asked = await read(request, Migrate)
            move = await self._checked(asked, caller)
            if asked.dry_run:
                return response(msgspec.json.encode(await self._plan(move)), JSON)
            self._changes.begin(str(move))
        except Refused as refused:
            return refused.response()
        except HostError as error:
            return Refused(503, told(error), retry_after=RETRY_AFTER).response()

        async def work(tell: Tell) -> None:
            try:
                await self._move(move, tell)
            finally:
                self._changes.end()

        return streamed(heard(self._parts.stores, work, lambda: False))

    async def _checked(self, asked: Migrate, caller: Caller) -> Move:
        name = split_name(asked.model)
        if not name.is_valid():
            raise Refused(400, "invalid model name")
        if not caller.may_use(name.key):
            raise Refused(404, f"model '{asked.model}' not found")
        source, to = self._host(asked.source), self._host(asked.to)
        if source == to:
            raise Refused(400, f"{source} is both `from` and `to`")
        nodes, others = self._live(source), self._live(to)
        there = await self._row(nodes[0], name.key)
        if there is None:
            raise Refused(404, f"{source} does not have model '{asked.model}'")
        row = await self._row(others[0], name.key)
        if row is not None and row.digest != there.digest:
            text = f"{to} has something else under this name ({row.digest[:12]}, on {source} it is {there.digest[:12]})"
            raise Refused(409, f"{text}: delete it there first, or rebalance")
        shown = str(there.fields["name"])
        return Move(name.key, shown, sha256(there.digest), source, tuple(nodes), to, asked.keep)

    def _host(self, word: str) -> str:
        """A host by its name, or by that of one of its nodes."""
        hosts = {backend.node: backend.host.name for backend in self._parts.roster.nodes.values()}
        hosts |= {host: host for host in hosts.values()}
        if word not in hosts:
            near = difflib.get_close_matches(word, hosts, 1)
            raise Refused(404, f"the gateway has no host '{word}'" + (f"; is it '{near[0]}'?" if near else ""))
        return hosts[word]

    def _live(self, host: str) -> list[Backend]:
        found = nodes_of(self._parts, host)
        seen = self._parts.roster.seen
        live = [backend for backend in found if seen[backend.id].state is not State.DOWN]
        if not live:
            raise Refused(503, f"{host} is down: {seen[found[0].id].health.why}", retry_after=RETRY_AFTER)
        return live

    async def _row(self, backend: Backend, key: str) -> Row | None:
        try:
            rows = await list_again(self._parts, backend)
        except Failed as failed:
            text = f"{backend.node} does not say which models it has: {failed}"
            raise Refused(503, text, retry_after=RETRY_AFTER) from None
        return next((row for row in rows if row.key == key), None)

    async def _plan(self, move: Move) -> Plan:
        async with self._parts.stores.opened((move.source, move.to)) as opened:
            for problem in opened.problems.values():
                raise problem
            contents = opened.contents
            stored = contents[move.source].models.get(move.key)
            if stored is None:
                hint = "is models_dir what its Ollama uses (OLLAMA_MODELS)?"
                raise HostError(move.source, "reading the model store", f"{move.name} is not in its store", hint=hint)
            sync = plan_copy(self._parts.declared.inventory, contents, move.key, move.source, [move.to])
        remove = None if move.keep else Remove(move.source, stored.name, stored.manifest)
        return migrating(sync, remove, self._warnings(move))

    async def _move(self, move: Move, tell: Tell) -> None:
        tell({"status": str(move)})
        try:
            # Also where it is listed already: a copy that is to be the only one is looked at, blob by blob.
            failed = await copy_model(self._parts, move.key, move.digest, move.source, [move.to], tell)
        except OlladistError as error:
            tell({"error": f"{move.name} was not copied: {why(error)}"})
            return
        if move.to in failed:
            tell({"error": f"{move.name} was not copied to {move.to}: {why(failed[move.to])}"})
            return
        for text in self._warnings(move):
            tell({"status": text})
        if not move.keep:
            try:
                self._live(move.to)
                await self._leaving.leave(move.source, move.nodes, move.key, move.name, tell)
            except OlladistError as error:
                tell({"error": f"{move.name} is on {move.to} now, and still on {move.source}: {why(error)}"})
                return
        tell({"status": SUCCESS})

    def _warnings(self, move: Move) -> list[str]:
        """What the caller should know beside."""
        inventory = self._parts.declared.inventory
        pinned = [model for model in inventory.models if model.name.key == move.key and model.replicas is None]
        hosts = {host.name for model in pinned for host in hosts_for(inventory, model)}
        if move.keep or move.source not in hosts:
            return []
        return [f"the inventory declares {move.name} on {move.source}: the next sync or rebalance brings it back"]
