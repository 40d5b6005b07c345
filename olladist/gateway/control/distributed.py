"""The fleet as documents: GET /api/distributed/status, /nodes and /models, for each caller what it may know of."""

from collections.abc import Callable, Sequence
from functools import cache

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as WebRoute

from olladist.gateway.control import documents, holdings
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.rights import who
from olladist.gateway.control.web import JSON, response


def pages(parts: Parts) -> Sequence[WebRoute]:
    def known(request: Request) -> Callable[[str], bool]:
        """Which models the caller may know of; a name is judged once, however many nodes have it."""
        return cache(who(request, parts).may_use)

    async def status(request: Request) -> Response:
        return response(msgspec.json.encode(documents.status(parts, known(request))), JSON)

    async def nodes(request: Request) -> Response:
        return response(msgspec.json.encode(documents.nodes(parts, known(request))), JSON)

    async def models(request: Request) -> Response:
        return response(msgspec.json.encode(holdings.models(parts, known(request))), JSON)

    return [
        WebRoute("/api/distributed/status", status),
        WebRoute("/api/distributed/nodes", nodes),
        WebRoute("/api/distributed/models", models),
    ]
