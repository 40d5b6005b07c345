"""POST /api/distributed/rebalance: what would bring the models where they shall be, or doing it."""

from collections.abc import Sequence
from dataclasses import replace

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from olladist.errors import HostError, OlladistError, StoreError
from olladist.fleet.models import read_models
from olladist.gateway.control.caller import Caller
from olladist.gateway.control.models.progress import SUCCESS
from olladist.gateway.control.moves.changes import Changes, Refused, read
from olladist.gateway.control.moves.copying import Watching, hosts_of, list_again, nodes_of, unlisted_on
from olladist.gateway.control.moves.describe import rebalancing, told
from olladist.gateway.control.moves.documents import Rebalance
from olladist.gateway.control.moves.hearing import Tell, heard, streamed
from olladist.gateway.control.moves.leaving import Leaving
from olladist.gateway.control.moves.plan import Deed, MovePlan, Remove, plan_rebalance
from olladist.gateway.control.moves.stores import Opened, why
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.rights import must_manage, who
from olladist.gateway.control.upstreams import Failed
from olladist.gateway.control.web import JSON, response
from olladist.modelstore.contents import StoreContents
from olladist.modelstore.plan import SyncPlan
from olladist.modelstore.steps import Copy, Create, Follow, Step
from olladist.ollama.digests import Digest
from olladist.scheduling.health import State


class Rebalances:
    def __init__(self, parts: Parts, changes: Changes, leaving: Leaving) -> None:
        self._parts = parts
        self._changes = changes
        self._leaving = leaving

    async def answer(self, request: Request) -> Response:
        caller = who(request, self._parts)
        if denied := must_manage(caller):
            return denied
        try:
            _must_know_all(caller)
            asked = await read(request, Rebalance)
            if asked.dry_run:
                async with self._parts.stores.opened(self._hosts()) as opened:
                    plan = await self._plan(opened, prune=asked.prune)
                    document = rebalancing(plan, opened.problems.values())
                return response(msgspec.json.encode(document), JSON)
            self._changes.begin("a rebalance")
        except Refused as refused:
            return refused.response()

        async def work(tell: Tell) -> None:
            try:
                await self._do(tell, prune=asked.prune)
            finally:
                self._changes.end()

        return streamed(heard(self._parts.stores, work, lambda: False))

    def _hosts(self) -> list[str]:
        return list(dict.fromkeys(backend.host.name for backend in self._parts.roster.nodes.values()))

    async def _plan(self, opened: Opened, *, prune: bool) -> MovePlan:
        roster = self._parts.roster
        times = {(b.host.name, row.key): row.time for n, b in roster.nodes.items() for row in roster.seen[n].tags}
        sources = await read_models(opened.fleet)
        contents = {host: self._without_deleted(host, seen) for host, seen in opened.contents.items()}
        drained = {backend.host.name for backend in roster.nodes.values() if backend.node in roster.drained}
        return plan_rebalance(
            self._parts.declared.inventory, contents, sources, times=times, drained=drained, prune=prune
        )

    def _without_deleted(self, host: str, seen: StoreContents) -> StoreContents:
        """What is still to be deleted on a host that is just back is nobody's source, and comes back nowhere."""
        deeds = (deed for backend in nodes_of(self._parts, host) for deed in self._parts.pending.of(backend.node))
        gone = {deed.model for deed in deeds if not deed.source}
        return replace(seen, models={key: stored for key, stored in seen.models.items() if key not in gone})

    async def _do(self, tell: Tell, *, prune: bool) -> None:
        watching = Watching(tell)
        tell({"status": "reading the model stores"})
        async with self._parts.stores.opened(self._hosts(), watching) as opened:
            plan = await self._plan(opened, prune=prune)
            for problem in (*opened.problems.values(), *plan.problems):
                tell({"status": f"left out: {told(problem)}"})
            failed: list[str] = []
            for group in plan.by_model:
                failed += await self._group(opened, watching, plan, group, tell)
        tell({"error": "; ".join(failed)} if failed else {"status": SUCCESS})

    async def _group(
        self, opened: Opened, watching: Watching, plan: MovePlan, group: Sequence[Deed], tell: Tell
    ) -> list[str]:
        """The deeds of one model; what failed, in words. A copy is only deleted where all before it went well."""
        steps = tuple(deed for deed in group if not isinstance(deed, Remove))
        failed: dict[str, OlladistError] = {}
        for step in steps:
            tell({"status": step.describe()})
        if steps:
            sync = SyncPlan(steps, (), plan.sync.holders, plan.sync.files)
            async with self._parts.stores.moving:
                failed = await watching.carry_out(
                    opened, sync, f"{steps[0].model} to {hosts_of(steps)}", _digest(steps)
                )
            failed |= await self._unlisted([step for step in steps if step.host not in failed])
        for remove in (deed for deed in group if isinstance(deed, Remove)):
            if not failed:
                failed |= await self._remove(remove, tell)
        name = str(group[0].model)
        for host, error in failed.items():
            tell({"status": f"not done on {host}: {name}: {why(error)}"})
        return [
            f"{name} on {host}: {error.cause if isinstance(error, HostError) else error.message}"
            for host, error in failed.items()
        ]

    async def _unlisted(self, steps: Sequence[Step]) -> dict[str, OlladistError]:
        """Hosts whose Ollamas do not list what was brought; the roster knows afterwards what they list."""
        found: dict[str, OlladistError] = {}
        for step in steps:
            if isinstance(step, Copy):
                if text := await unlisted_on(self._parts, step.host, step.model.key, step.manifest.digest):
                    found[step.host] = StoreError(step.host, "looking for the model", text)
                continue
            for backend in nodes_of(self._parts, step.host):
                try:
                    await list_again(self._parts, backend)
                except Failed:
                    continue  # it has made or pulled the model itself
        return found

    async def _remove(self, deed: Remove, tell: Tell) -> dict[str, OlladistError]:
        seen = self._parts.roster.seen
        nodes = [b for b in nodes_of(self._parts, deed.host) if seen[b.id].state is not State.DOWN]
        tell({"status": deed.describe()})
        if not nodes:
            return {deed.host: HostError(deed.host, f"deleting {deed.model}", "its Ollama does not answer")}
        try:
            await self._leaving.leave(deed.host, nodes, deed.model.key, str(deed.model), tell)
        except HostError as error:
            return {deed.host: error}
        return {}


def _must_know_all(caller: Caller) -> None:
    if caller.key is not None and caller.key.models:
        raise Refused(403, f"the key '{caller.key.name}' may not know of all models, and a rebalance is of all")


def _digest(steps: Sequence[Step]) -> Digest:
    """What stands for the model: clients draw one bar for each."""
    for step in steps:
        if isinstance(step, Copy):
            return step.manifest.digest
        if isinstance(step, Create | Follow):
            return f"sha256:{step.recipe.digest}"
    return ""
