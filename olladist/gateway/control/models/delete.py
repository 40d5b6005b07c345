"""DELETE /api/delete: on every host that has the model; one that is away does it before its models are listed again."""

import asyncio
from collections.abc import Iterable

import structlog
from starlette.requests import Request
from starlette.responses import Response

from olladist.gateway.control.models.asking import (
    PATIENCE,
    Outcome,
    all_stores,
    as_it_is,
    ask,
    look,
    nobody_has_it,
    read_request,
    shown,
)
from olladist.gateway.control.models.pending import Deed
from olladist.gateway.control.models.targets import Store, holders
from olladist.gateway.control.models.verdict import DONE, MISSING, verdict
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.uploads.unspread import Unspread
from olladist.gateway.control.web import error_response
from olladist.ollama.refusal import refusal
from olladist.ollama.routes import Route

log = structlog.get_logger()


async def delete(parts: Parts, request: Request, route: Route) -> Response:
    read = await read_request(parts, request, route)
    if isinstance(read, Response):
        return read
    wanted, _ = read
    key = wanted.key
    await look(parts)
    targets = holders(all_stores(parts, key))
    if not targets.now and not targets.away:
        return nobody_has_it(parts, route, wanted.model)
    # Nobody is to get it any more, or has anything else to do about it.
    Unspread(parts.state).cancel(key)
    parts.pending.cancel(key)
    outcomes = await asyncio.gather(*(ask(parts, store, route, wanted.body) for store in targets.now))
    unheard = [outcome.store for outcome in outcomes if not outcome.answer]
    remember(parts, key, (*targets.away, *unheard))
    await forget(parts, key, outcomes)
    judged = verdict(outcomes, "deleted", remembered=bool(targets.away or unheard))
    log.info(
        "model deleted",
        model=key,
        hosts=shown(outcome.store.host for outcome in outcomes if outcome.status == DONE),
        later=shown(store.host for store in (*targets.away, *unheard)),
        problem=judged.text,
    )
    if judged.only and judged.only.answer:
        return as_it_is(judged.only.answer, judged.only.node)
    if judged.status == MISSING:
        return error_response(route.dialect, *refusal(route, wanted.model))
    if judged.status != DONE:
        return error_response(route.dialect, judged.status, judged.text)
    return Response()


def remember(parts: Parts, key: str, away: Iterable[Store]) -> None:
    """These hosts delete what they have under that name when they are back, and nobody hears of it any more."""
    for store in away:
        for number, backend in parts.roster.backends.items():
            if backend.node in store.nodes:
                parts.pending.add(Deed(backend.node, key, digest=store.digest))
                parts.roster.forget(number, key)


async def forget(parts: Parts, key: str, outcomes: Iterable[Outcome]) -> None:
    """What hosts have said themselves: they have not got it, or not any more."""
    gone = {node for outcome in outcomes if outcome.status in {DONE, MISSING} for node in outcome.store.nodes}
    numbers = [number for number, backend in parts.roster.backends.items() if backend.node in gone]
    for number in numbers:
        parts.roster.forget(number, key)
    await parts.prober.read_tags(numbers, PATIENCE)
