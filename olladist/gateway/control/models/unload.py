"""A generate or chat with nothing to answer and keep_alive 0: the model leaves the memory of every node that has it there.

Workers send these here; everything else that is inference they take to one node themselves.
"""

import asyncio

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from olladist.gateway.control.backends import Backend
from olladist.gateway.control.models.asking import PATIENCE, as_it_is, ask_node, error_text, look, nobody_has_it, shown
from olladist.gateway.control.models.designated import designated
from olladist.gateway.control.models.relay import relayed
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.rights import must_use, who
from olladist.gateway.control.roster import Seen
from olladist.gateway.control.upstreams import Answered, Failed
from olladist.gateway.control.web import error_response, read_whole
from olladist.ollama.names import is_cloud, split_name
from olladist.ollama.request import BadBody, read_body
from olladist.ollama.routes import Route

# As for inference (settings.Limits.body).
_BODY_BYTES_MAX = 64 * 2**20


async def unload(parts: Parts, request: Request, route: Route) -> Response:
    try:
        body = await read_whole(request, _BODY_BYTES_MAX)
        if body is None:
            return error_response(route.dialect, 413, f"a body of more than {_BODY_BYTES_MAX} bytes")
        asked = read_body(body, route)
    except ClientDisconnect:
        return Response(status_code=499)  # nobody reads it
    except BadBody as bad:
        return error_response(route.dialect, bad.status, bad.text, malformed=True)
    if refused := must_use(who(request, parts), route, asked.model):
        return refused
    if not asked.unload:
        return error_response(
            route.dialect, 501, "this is the gateway's control process: ask the gateway's own address"
        )
    key = split_name(asked.model).key
    roster = parts.roster
    await look(parts)
    holders = roster.able(roster.holders_in_play(key))
    await parts.prober.read_loaded([holder.id for holder in holders], PATIENCE)
    if not holders and roster.serving.distributed and is_cloud(asked.model):
        return relayed(parts, request, route, (designated(roster, parts.declared),), body)
    if not holders:
        return nobody_has_it(parts, route, asked.model)
    loaded = [holder for holder in holders if in_memory(roster.seen[holder.id], key)]
    # Where it is nowhere in memory one holder says what an Ollama says then.
    for holder in loaded:
        parts.dispatcher.queue.unloads(holder.id, key)
    answer = await _everywhere(parts, loaded or holders[:1], route, body)
    await parts.prober.read_loaded([holder.id for holder in loaded], PATIENCE)
    return answer


def in_memory(seen: Seen, key: str) -> bool:
    """Under whichever name: an Ollama runs one content once, and unloads it by any of its names (server/sched.go expireRunner)."""
    return key in seen.warm or any(row.key == key for row in seen.loaded)


async def _everywhere(parts: Parts, backends: list[Backend], route: Route, body: bytes) -> Response:
    """The answer of one for all; an error that names those which could not do it."""

    async def one(backend: Backend) -> Answered | Failed:
        try:
            return await ask_node(parts, backend, route, body)
        except Failed as failed:
            return failed

    given = list(zip(backends, await asyncio.gather(*map(one, backends)), strict=True))
    answers = [(answer, backend) for backend, answer in given if isinstance(answer, Answered)]
    good = [(answer, backend) for answer, backend in answers if answer.status == 200]
    bad = [(answer, backend) for answer, backend in answers if answer.status not in {200, 404}]
    if len(bad) == 1 and len(backends) == 1:
        return as_it_is(bad[0][0], bad[0][1].node)
    if bad:
        reasons = shown(f"{backend.node} ({error_text(answer)})" for answer, backend in bad)
        return error_response(route.dialect, 500, f"not unloaded on {reasons}")
    for answer, backend in good or answers:
        return as_it_is(answer, backend.node)
    reasons = shown(f"{backend.node} ({failure})" for backend, failure in given)
    return error_response(route.dialect, 503, f"not unloaded: {reasons}", retry_after=1)
