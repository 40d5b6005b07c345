"""POST /api/copy: on every host that has the source, and a name that is overwritten means the new content everywhere."""

import asyncio
from collections.abc import Iterable

import structlog
from starlette.requests import Request
from starlette.responses import Response

from olladist.gateway.control.models.asking import (
    PATIENCE,
    Outcome,
    Wanted,
    all_stores,
    as_it_is,
    ask,
    look,
    nobody_has_it,
    read_request,
    shown,
)
from olladist.gateway.control.models.delete import forget, remember
from olladist.gateway.control.models.pending import Deed
from olladist.gateway.control.models.targets import Store, holders
from olladist.gateway.control.models.verdict import DONE, MISSING, verdict
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.rights import must_use
from olladist.gateway.control.uploads.unspread import Unspread
from olladist.gateway.control.web import error_response
from olladist.ollama import framing, gojson
from olladist.ollama.names import split_name
from olladist.ollama.refusal import refusal
from olladist.ollama.routes import ROUTES, Route

_DELETE = next(route for route in ROUTES if route.name == "delete")

log = structlog.get_logger()


async def copy(parts: Parts, request: Request, route: Route) -> Response:
    read = await read_request(parts, request, route)
    if isinstance(read, Response):
        return read
    wanted, caller = read
    target = destination(wanted.body)
    if not split_name(target).is_valid():
        return error_response(route.dialect, 400, f"destination {gojson.quote(target)} is invalid")
    if refused := must_use(caller, route, target):
        return refused
    await look(parts)
    return await Copying(parts, route, wanted, split_name(target).key).run()


def destination(body: bytes) -> str:
    """As Go reads it, out of a body that has been read for its source already: in any case, the last one that is a string counts."""
    found = gojson.members(body)
    named = [] if isinstance(found, str) else [m.value for m in found if gojson.fold(m.key) == "destination"]
    strings = [value for value in named if gojson.kind(value) == "string"]
    return gojson.string(strings[-1]) if strings else ""


class Copying:
    """One copy of `wanted` to the name `target`."""

    def __init__(self, parts: Parts, route: Route, wanted: Wanted, target: str) -> None:
        self._parts = parts
        self._route = route
        self._wanted = wanted
        self._target = target
        self._before = {store.host: store for store in all_stores(parts, target)}

    async def run(self) -> Response:
        parts, wanted, target = self._parts, self._wanted, self._target
        sources = holders(all_stores(parts, wanted.key))
        if not sources.now:
            return nobody_has_it(parts, self._route, wanted.model)
        outcomes = await asyncio.gather(*(ask(parts, store, self._route, wanted.body) for store in sources.now))
        unheard = [outcome.store for outcome in outcomes if not outcome.answer]
        done = [outcome.store for outcome in outcomes if outcome.status == DONE]
        outdated: list[Outcome] = []
        if done and target != wanted.key:
            Unspread(parts.state).cancel(target)
            parts.pending.cancel(target)
            self._remember((*sources.away, *unheard))
            outdated = await self._drop({store.host for store in (*sources.now, *sources.away)})
        nodes = {node for store in done for node in store.nodes}
        await parts.prober.read_tags((n for n, b in parts.roster.backends.items() if b.node in nodes), PATIENCE)
        log.info("model copied", model=wanted.key, to=target, hosts=shown(store.host for store in done))
        return self._answer(outcomes, outdated)

    def _remember(self, away: Iterable[Store]) -> None:
        """These have the source and make the copy when they are back."""
        roster = self._parts.roster
        for store in away:
            before = self._before.get(store.host)
            for number, backend in roster.backends.items():
                if backend.node in store.nodes:
                    deed = Deed(backend.node, self._target, self._wanted.key, before.digest if before else "")
                    self._parts.pending.add(deed)
                    roster.forget(number, self._target)

    async def _drop(self, sources: set[str]) -> list[Outcome]:
        """Hosts without the source cannot have what the name means now, so what they have under it goes."""
        stale = holders(store for store in self._before.values() if store.host not in sources)
        body = framing.encode({"model": self._target})
        outcomes = await asyncio.gather(*(ask(self._parts, store, _DELETE, body) for store in stale.now))
        unheard = [outcome.store for outcome in outcomes if not outcome.answer]
        remember(self._parts, self._target, (*stale.away, *unheard))
        await forget(self._parts, self._target, outcomes)
        return [outcome for outcome in outcomes if outcome.answer]

    def _answer(self, outcomes: list[Outcome], outdated: list[Outcome]) -> Response:
        some = any(outcome.status == DONE for outcome in outcomes)
        judged = verdict(outcomes, "copied", remembered=some)
        if judged.only and judged.only.answer:
            return as_it_is(judged.only.answer, judged.only.node)
        if judged.status == MISSING:
            return error_response(self._route.dialect, *refusal(self._route, self._wanted.model))
        if judged.status == DONE:
            judged = verdict(outdated, "replaced", remembered=True)
        if judged.status != DONE:
            return error_response(self._route.dialect, 500, judged.text or (judged.only.why if judged.only else ""))
        return Response()
