"""Everything that is not inference, as an ordinary web application: to a worker one more upstream, on api.sock."""

import html
from collections.abc import Awaitable, Callable, Mapping
from typing import cast

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as WebRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from olladist.gateway.control import documents
from olladist.gateway.control.catalog import merge_loaded, merge_tags, openai_model
from olladist.gateway.control.lease_server import MODE
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.show import Answer, Shower
from olladist.ollama import framing
from olladist.ollama.routes import Route, allowed_methods, find

# A listing that is younger than this is as good as one asked for now; the bound is on what a client waits for a slow host, whose
# last known listing is used then.
YOUNG = 0.2
PATIENCE = 0.5

JSON = "application/json; charset=utf-8"

# What stands in for the routes that change hosts, until the gateway does them itself.
_INSTEAD = {
    "pull": "declare the model in the inventory and run `olladist models sync`",
    "create": "declare the model with its `source` in the inventory and run `olladist models sync`",
    "blob-exists": "declare the model with its `source` in the inventory and run `olladist models sync`",
    "blob-upload": "declare the model with its `source` in the inventory and run `olladist models sync`",
    "copy": "run `olladist exec -- ollama cp SOURCE DESTINATION`",
    "delete": "run `olladist exec -- ollama rm MODEL`",
    "push": "run `olladist ssh HOST` and there `ollama push MODEL`",
    "me": "run `olladist ssh HOST` and there `ollama signin`",
    "signout": "run `olladist ssh HOST` and there `ollama signout`",
    "user-keys": "run `olladist ssh HOST` and there `ollama signout`",
}


def make_app(parts: Parts) -> ASGIApp:
    """The application; every answer says that it comes from a fleet."""
    answers = Answers(parts)
    app = Starlette(
        routes=[
            WebRoute("/healthz", answers.healthz),
            WebRoute("/api/distributed/status", answers.status),
            WebRoute("/api/distributed/nodes", answers.nodes),
        ],
        exception_handlers={HTTPException: _as_gin},
    )
    app.router.redirect_slashes = False
    app.router.default = answers.ollama
    return _with_mode(app)


class Answers:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        shower = Shower(parts)
        self._routes: Mapping[str, Callable[[Request, Route], Awaitable[Response]]] = {
            "root": self._root,
            "version": self._version,
            "status": _relay(shower.any_node),
            "tags": self._tags,
            "ps": self._ps,
            "show": _relay(shower.show),
            "v1/models": self._openai_models,
            "v1/model": _relay(shower.openai_model),
        }

    # Ours.

    async def healthz(self, _request: Request) -> Response:
        return _json({"status": "ok"})

    async def status(self, _request: Request) -> Response:
        return _response(msgspec.json.encode(documents.status(self._parts)), JSON)

    async def nodes(self, _request: Request) -> Response:
        return _response(msgspec.json.encode(documents.nodes(self._parts)), JSON)

    # Ollama's.

    async def ollama(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        # As it was sent: find() decodes it once, as gin does.
        path = scope.get("raw_path", b"").decode("latin-1") or scope["path"]
        route = find(request.method, path)
        if route is None and path.endswith("/") and find(request.method, path[:-1]):
            response = _moved(request, path[:-1])
        elif route is None:
            response = _no_route(", ".join(allowed_methods(path)))
        elif answer := self._routes.get(route.name):
            response = await answer(request, route)
        else:
            response = _not_here(route)
        await response(scope, receive, send)

    async def _root(self, _request: Request, _route: Route) -> Response:
        return _response(b"Ollama is running", "text/plain; charset=utf-8")

    async def _version(self, _request: Request, _route: Route) -> Response:
        return _json({"version": documents.ollama_version(self._parts)})

    async def _tags(self, _request: Request, _route: Route) -> Response:
        await self._parts.prober.refresh_tags(older_than=YOUNG, within=PATIENCE)
        listings = {node: seen.tags for node, seen in self._parts.roster.live().items()}
        return _json({"models": [row.fields for row in merge_tags(listings)]})

    async def _ps(self, _request: Request, _route: Route) -> Response:
        await self._parts.prober.refresh_loaded(older_than=YOUNG, within=PATIENCE)
        listings = {node: seen.loaded for node, seen in self._parts.roster.live().items()}
        return _json({"models": [row.fields for row in merge_loaded(listings)]})

    async def _openai_models(self, _request: Request, _route: Route) -> Response:
        await self._parts.prober.refresh_tags(older_than=YOUNG, within=PATIENCE)
        listings = {node: seen.tags for node, seen in self._parts.roster.live().items()}
        rows = [openai_model(row) for row in merge_tags(listings)]
        # `null` for none: a nil slice of Go (openai/openai.go ToListCompletion). json.Encoder ends with a newline.
        return _response(framing.encode({"object": "list", "data": rows or None}) + b"\n", "application/json")


def _relay(answer: Callable[[Request, Route], Awaitable[Answer]]) -> Callable[[Request, Route], Awaitable[Response]]:
    async def respond(request: Request, route: Route) -> Response:
        given = await answer(request, route)
        headers = {"X-Ollama-Node": given.node} if given.node else {}
        if given.retry_after:
            headers["Retry-After"] = str(given.retry_after)
        return _response(given.body, given.content_type, given.status, headers)

    return respond


def _response(body: bytes, content_type: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response with the content type as it stands: Starlette would add a charset to what is to be as gin writes it."""
    return Response(body, status, {"Content-Type": content_type, **(headers or {})})


def _json(value: object) -> Response:
    return _response(framing.encode(value), JSON)


def _not_here(route: Route) -> Response:
    instead = _INSTEAD.get(route.name, "ask a host itself (`olladist ssh HOST`)")
    text = f"the gateway does not do {route.methods[0]} {route.path} yet: {instead}"
    return _response(framing.error_body(route.dialect, 501, text), framing.error_content_type(route.dialect), 501)


def _no_route(allowed: str) -> Response:
    """Gin's own answers."""
    if not allowed:
        return _response(framing.NOT_FOUND, framing.PLAIN, 404)
    return _response(framing.METHOD_NOT_ALLOWED, framing.PLAIN, 405, {"Allow": allowed})


def _moved(request: Request, path: str) -> Response:
    """As gin redirects a trailing slash: its body is that of http.Redirect, which has one for GET only."""
    location = path + (f"?{request.url.query}" if request.url.query else "")
    if request.method != "GET":
        return Response(status_code=307, headers={"Location": location})
    body = f'<a href="{html.escape(location)}">Moved Permanently</a>.\n\n'.encode()
    return _response(body, "text/html; charset=utf-8", 301, {"Location": location})


async def _as_gin(_request: Request, error: Exception) -> Response:
    return _no_route((cast("HTTPException", error).headers or {}).get("Allow", ""))


def _with_mode(app: ASGIApp) -> ASGIApp:
    added: list[tuple[bytes, bytes]] = [(b"x-ollama-distributed", b"true"), (b"x-ollama-mode", MODE.encode())]

    async def with_mode(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_mode(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await app(scope, receive, send_with_mode)

    return with_mode
