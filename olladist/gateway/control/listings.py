"""Ollama's routes that read: out of the catalog, out of what one node says, or out of nothing at all."""

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response

from olladist.gateway.control import documents
from olladist.gateway.control.catalog import merge_loaded, merge_tags, openai_model
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.show import Answer as Given
from olladist.gateway.control.show import Shower
from olladist.gateway.control.web import Answer, json_response, response
from olladist.ollama import framing
from olladist.ollama.routes import Route

# A listing that is younger than this is as good as one asked for now; the bound is on what a client waits for a slow host, whose
# last known listing is used then.
YOUNG = 0.2
PATIENCE = 0.5


def answers(parts: Parts) -> Mapping[str, Answer]:
    shower, listings = Shower(parts), Listings(parts)
    return {
        "root": listings.root,
        "version": listings.version,
        "status": _relay(shower.any_node),
        "tags": listings.tags,
        "ps": listings.ps,
        "show": _relay(shower.show),
        "v1/models": listings.openai_models,
        "v1/model": _relay(shower.openai_model),
    }


class Listings:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def root(self, _request: Request, _route: Route) -> Response:
        return response(b"Ollama is running", "text/plain; charset=utf-8")

    async def version(self, _request: Request, _route: Route) -> Response:
        return json_response({"version": documents.ollama_version(self._parts)})

    async def tags(self, _request: Request, _route: Route) -> Response:
        await self._parts.prober.refresh_tags(older_than=YOUNG, within=PATIENCE)
        listings = {node: seen.tags for node, seen in self._parts.roster.live().items()}
        return json_response({"models": [row.fields for row in merge_tags(listings)]})

    async def ps(self, _request: Request, _route: Route) -> Response:
        await self._parts.prober.refresh_loaded(older_than=YOUNG, within=PATIENCE)
        listings = {node: seen.loaded for node, seen in self._parts.roster.live().items()}
        return json_response({"models": [row.fields for row in merge_loaded(listings)]})

    async def openai_models(self, _request: Request, _route: Route) -> Response:
        await self._parts.prober.refresh_tags(older_than=YOUNG, within=PATIENCE)
        listings = {node: seen.tags for node, seen in self._parts.roster.live().items()}
        rows = [openai_model(row) for row in merge_tags(listings)]
        # `null` for none: a nil slice of Go (openai/openai.go ToListCompletion). json.Encoder ends with a newline.
        return response(framing.encode({"object": "list", "data": rows or None}) + b"\n", "application/json")


def _relay(answer: Callable[[Request, Route], Awaitable[Given]]) -> Answer:
    async def respond(request: Request, route: Route) -> Response:
        given = await answer(request, route)
        headers = {"X-Ollama-Node": given.node} if given.node else {}
        if given.retry_after:
            headers["Retry-After"] = str(given.retry_after)
        return response(given.body, given.content_type, given.status, headers)

    return respond
