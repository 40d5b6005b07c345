"""What goes to one node and comes back as it is: the sign-in at ollama.com, pushes, the cloud's own routes."""

from collections.abc import Iterable
from contextlib import aclosing

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from olladist.gateway.control.backends import Backend
from olladist.gateway.control.models.asking import look, read_request
from olladist.gateway.control.models.designated import designated
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.refusals import RETRY_AFTER
from olladist.gateway.control.rights import must_manage, who
from olladist.gateway.control.telling import Teller, Telling
from olladist.gateway.control.upstreams import Failed
from olladist.gateway.control.web import BODY_BYTES_MAX, error_response, read_whole
from olladist.ollama.routes import Route
from olladist.scheduling.health import State

# What says how the body is to be read; everything else of the answer's head is about the connection.
_KEPT = ("content-type", "content-length")


async def push(parts: Parts, request: Request, route: Route) -> Response:
    """From the node that is signed in, where that has the model; else from one that has."""
    read = await read_request(parts, request, route)
    if isinstance(read, Response):
        return read
    wanted, _ = read
    await look(parts)
    roster = parts.roster
    chosen = designated(roster, parts.declared)
    holders = roster.able(roster.holders_in_play(wanted.key))
    if holders and chosen not in {holder.id for holder in holders}:
        chosen = holders[0].id
    return relayed(parts, request, route, (chosen,), wanted.body)


async def to_designated(parts: Parts, request: Request, route: Route) -> Response:
    """For whoever may change models: a sign-in is everybody's."""
    if denied := must_manage(who(request, parts)):
        return denied
    return await open_to_all(parts, request, route)


async def open_to_all(parts: Parts, request: Request, route: Route) -> Response:
    """For what changes nothing."""
    try:
        body = await read_whole(request)
    except ClientDisconnect:
        return Response(status_code=499)  # nobody reads it
    if body is None:
        return error_response(route.dialect, 413, f"a body of more than {BODY_BYTES_MAX} bytes")
    return relayed(parts, request, route, (designated(parts.roster, parts.declared),), body)


async def status(parts: Parts, request: Request, route: Route) -> Response:
    """The designated node's; while that is away any other's, for it is about clients more than about the node."""
    others = (backend.id for backend in parts.roster.able(parts.roster.in_play()))
    return relayed(parts, request, route, (designated(parts.roster, parts.declared), *others), b"")


def relayed(parts: Parts, request: Request, route: Route, numbers: Iterable[int | None], body: bytes) -> Response:
    """The answer of the first of these that gives one."""
    asked = [parts.roster.backends[number] for number in dict.fromkeys(numbers) if number is not None]
    raw = request.scope.get("raw_path", b"").decode("latin-1") or request.url.path
    path = raw + (f"?{request.url.query}" if request.url.query else "")

    async def tell(teller: Teller) -> None:
        refused = error_response(route.dialect, 503, "the inventory has no host for this", retry_after=RETRY_AFTER)
        for backend in asked:
            seen = parts.roster.seen.get(backend.id)
            if seen is None or seen.state is State.DOWN:
                refused = _away(route, backend, seen.health.why if seen else "")
                continue
            try:
                async with (
                    parts.upstreams.stream(backend, request.method, path, content=body or None) as exchange,
                    aclosing(exchange.chunks()) as chunks,
                ):
                    headers = {name: exchange.headers[name] for name in _KEPT if name in exchange.headers}
                    await teller.pass_on(exchange.status, headers | {"x-ollama-node": backend.node}, chunks)
            except Failed as failure:
                parts.roster.ended(backend.id, "cut" if teller.began else "connect")
                refused = _away(route, backend, str(failure))
            if teller.began:
                return
        await teller.answer(refused)

    return Telling(tell, stream=False)


def _away(route: Route, backend: Backend, why: str) -> Response:
    text = f"{backend.node} does this for all hosts, and cannot be reached" + (f": {why}" if why else "")
    return error_response(route.dialect, 503, text, retry_after=RETRY_AFTER)
