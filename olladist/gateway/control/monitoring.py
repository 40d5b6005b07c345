"""What those who watch a gateway ask: GET /metrics and GET /admin/stats."""

import asyncio
from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as WebRoute

from olladist.gateway.control.exposition import content_type, written
from olladist.gateway.control.gauges import scrape
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.rights import must_administrate, must_see_metrics, who
from olladist.gateway.control.statistics import statistics
from olladist.gateway.control.web import JSON, response


def pages(parts: Parts) -> Sequence[WebRoute]:
    one_at_a_time = asyncio.Lock()

    async def metrics(request: Request) -> Response:
        if refused := must_see_metrics(who(request, parts), parts.settings, parts.keys):
            return refused
        kind = content_type(request.headers.get("accept", ""))
        async with one_at_a_time:
            body = await written(scrape(parts), kind)
        return response(body, kind)

    async def stats(request: Request) -> Response:
        if refused := must_administrate(who(request, parts), parts.settings):
            return refused
        return response(msgspec.json.encode(statistics(parts)), JSON)

    return [WebRoute("/metrics", metrics), WebRoute("/admin/stats", stats)]
