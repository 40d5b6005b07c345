"""Ollama's routes that read: out of the catalog, out of what one node says, or out of nothing at all."""

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from olladist.gateway.control import documents, fallback
from olladist.gateway.control.answers import Row
from olladist.gateway.control.catalog import merge_loaded, merge_tags, openai_model
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.rights import visible, who
from olladist.gateway.control.show import Shower
from olladist.gateway.control.web import Answer, json_response, response
from olladist.ollama import framing
from olladist.ollama.routes import Route
from olladist.scheduling.health import State

# A listing that is younger than this is as good as one asked for now; the bound is on what a client waits for a slow host, whose
# last known listing is used then.
YOUNG = 0.2
PATIENCE = 0.5


def answers(parts: Parts) -> Mapping[str, Answer]:
    shower, listings = Shower(parts), Listings(parts)
    return {
        "root": listings.root,
        "version": listings.version,
        "tags": listings.tags,
        "ps": listings.ps,
        "show": shower.show,
        "v1/models": listings.openai_models,
        "v1/model": shower.openai_model,
    }


class Listings:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def root(self, _request: Request, _route: Route) -> Response:
        return response(b"Ollama is running", "text/plain; charset=utf-8")

    async def version(self, _request: Request, _route: Route) -> Response:
        return json_response({"version": documents.ollama_version(self._parts)})

    async def tags(self, request: Request, _route: Route) -> Response:
        rows = await self._tags(request)
        return json_response({"models": [row.fields for row in rows]}, headers=self._standing_in())

    async def ps(self, request: Request, _route: Route) -> Response:
        # Anew: who has just had a model unloaded, or has loaded one, looks for that.
        roster = self._parts.roster
        live = [number for number in roster.in_play() if roster.seen[number].state is not State.DOWN]
        await self._parts.prober.read_loaded(live, PATIENCE)
        rows = merge_loaded({node: seen.loaded for node, seen in self._parts.roster.shown().items()})
        rows = self._visible(request, rows)
        return json_response({"models": [row.fields for row in rows]}, headers=self._standing_in())

    async def openai_models(self, request: Request, _route: Route) -> Response:
        rows = [openai_model(row) for row in await self._tags(request)]
        # `null` for none: a nil slice of Go (openai/openai.go ToListCompletion). json.Encoder ends with a newline.
        body = framing.encode({"object": "list", "data": rows or None}) + b"\n"
        return response(body, "application/json", headers=self._standing_in())

    async def _tags(self, request: Request) -> list[Row]:
        """Of whoever the mode asks first: the fleet, or the local Ollama."""
        await self._parts.prober.refresh_tags(older_than=YOUNG, within=PATIENCE)
        rows = merge_tags({node: seen.tags for node, seen in self._parts.roster.shown().items()})
        return self._visible(request, rows)

    def _standing_in(self) -> dict[str, str]:
        """Header fields of a listing that is not of the mode's first choice: nobody of it can be reached."""
        roster = self._parts.roster
        why = fallback.reason(roster.serving.order[0], (), reachable=False)
        return fallback.header_fields(roster.serving, roster.shown_role(), why)

    def _visible(self, request: Request, rows: list[Row]) -> list[Row]:
        return visible(who(request, self._parts), rows, lambda row: row.key)
