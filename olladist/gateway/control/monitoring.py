"""What those who watch a gateway ask: GET /metrics and GET /admin/stats."""

import asyncio
from collections.abc import Callable, Sequence

import msgspec
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as WebRoute

from olladist.gateway.control.gauges import scrape
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.rights import must_administrate, must_see_metrics, who
from olladist.gateway.control.statistics import statistics
from olladist.gateway.control.web import JSON, response

_OPENMETRICS = "application/openmetrics-text"


def pages(parts: Parts) -> Sequence[WebRoute]:
    one_at_a_time = asyncio.Lock()

    async def metrics(request: Request) -> Response:
        if refused := must_see_metrics(who(request, parts), parts.settings, parts.keys):
            return refused
        encode, content_type = _encoder(request.headers.get("accept", ""))
        async with one_at_a_time:
            # Of 200 nodes with 200 models it may be tens of megabytes: a second of a thread, while the loop goes on.
            body = await asyncio.to_thread(encode, scrape(parts.leases))
        return response(body, content_type)

    async def stats(request: Request) -> Response:
        if refused := must_administrate(who(request, parts), parts.settings):
            return refused
        return response(msgspec.json.encode(statistics(parts)), JSON)

    return [WebRoute("/metrics", metrics), WebRoute("/admin/stats", stats)]


def _encoder(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    """OpenMetrics for who asks for it, as Prometheus does; the text format 0.0.4 for everybody else."""
    if any(part.partition(";")[0].strip().lower() == _OPENMETRICS for part in accept.split(",")):
        return openmetrics.generate_latest, openmetrics.CONTENT_TYPE_LATEST
    return generate_latest, CONTENT_TYPE_PLAIN_0_0_4
