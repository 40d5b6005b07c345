"""Everything that is not inference, as an ordinary web application: to a worker one more upstream, on api.sock.

Each module brings what it answers: Ollama's routes by their names, and pages of our own by their paths.
"""

import html
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as WebRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from olladist.gateway.control import admin, distributed, explanation, life, listings, monitoring, ready
from olladist.gateway.control.models import answers as models
from olladist.gateway.control.moves import pages as moves
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.roster import Roster
from olladist.gateway.control.unread import Unread
from olladist.gateway.control.uploads import answers as uploads
from olladist.gateway.control.web import Answer, error_response, response
from olladist.ollama import framing
from olladist.ollama.routes import Route, allowed_methods, find, moved

_ANSWERS: tuple[Callable[[Parts], Mapping[str, Answer]], ...] = (listings.answers, models.answers, uploads.answers)


def make_app(parts: Parts) -> ASGIApp:
    """The application; every answer says that it comes from a fleet."""
    app = Starlette(
        routes=[page for pages in _PAGES for page in pages(parts)],
        exception_handlers={HTTPException: _as_gin},
    )
    app.router.redirect_slashes = False
    app.router.default = _ollama({name: answer for answers in _ANSWERS for name, answer in answers(parts).items()})
    return _with_mode(app, parts.roster)


_PAGES: tuple[Callable[[Parts], Sequence[WebRoute]], ...] = (
    distributed.pages,
    ready.pages,
    monitoring.pages,
    life.pages,
    admin.pages,
    explanation.pages,
    moves.pages,
)


def _ollama(answers: Mapping[str, Answer]) -> ASGIApp:
    async def ollama(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        # As it was sent: find() decodes it once, as gin does.
        path = scope.get("raw_path", b"").decode("latin-1") or scope["path"]
        route = find(request.method, path)
        if path == "*":  # RFC 9110 §9.3.7: OPTIONS of the server itself
            answer = Response()
        elif place := moved(request.method, path):
            answer = _moved(request, *place)
        elif route is None:
            answer = _no_route(", ".join(allowed_methods(path)))
        elif route.name in answers:
            answer = await answers[route.name](request, route)
        else:
            answer = _not_here(route)
        await answer(scope, receive, send)

    return ollama


def _not_here(route: Route) -> Response:
    """Inference: workers take it to a backend themselves."""
    text = f"the gateway's control process does not do {route.methods[0]} {route.path}: ask the gateway's own address"
    return error_response(route.dialect, 501, text)


def _no_route(allowed: str) -> Response:
    """Gin's own answers."""
    if not allowed:
        return response(framing.NOT_FOUND, framing.PLAIN, 404)
    return response(framing.METHOD_NOT_ALLOWED, framing.PLAIN, 405, {"Allow": allowed})


def _moved(request: Request, status: int, path: str) -> Response:
    """As Go's http.Redirect writes it: with a body for GET only."""
    location = path + (f"?{request.url.query}" if request.url.query else "")
    if request.method not in {"GET", "HEAD"}:
        return Response(status_code=status, headers={"Location": location})
    body = f'<a href="{html.escape(location)}">{HTTPStatus(status).phrase}</a>.\n\n'.encode()
    return response(body, "text/html; charset=utf-8", status, {"Location": location})


async def _as_gin(_request: Request, error: Exception) -> Response:
    return _no_route((cast("HTTPException", error).headers or {}).get("Allow", ""))


def _with_mode(app: ASGIApp, roster: Roster) -> ASGIApp:
    async def with_mode(scope: Scope, receive: Receive, send: Send) -> None:
        request = Unread(receive)

        async def send_with_mode(message: Message) -> None:
            if message["type"] == "http.response.start":
                serving = roster.serving
                message["headers"] = [
                    *message["headers"],
                    (b"x-ollama-distributed", b"true" if serving.distributed else b"false"),
                    (b"x-ollama-mode", serving.mode.encode()),
                ]
            elif not message.get("more_body", False):
                await request.finish()
            await send(message)

        await app(scope, request.receive, send_with_mode)

    return with_mode
