"""Whether the gateway lives, and whether clients can be served: what supervisors and load balancers ask."""

from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as WebRoute

from olladist.gateway.control.parts import Parts
from olladist.gateway.control.refusals import RETRY_AFTER
from olladist.gateway.control.roster import Roster
from olladist.gateway.control.web import JSON, json_response, response
from olladist.scheduling.health import State


class Readiness(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`reason` says in words what is wrong, without the name of any host: whoever comes may read it."""

    status: str
    reason: str = ""


def readiness(roster: Roster) -> Readiness:
    """Ready where anybody who answers requests in the present mode is not down and not drained."""
    in_play = roster.in_play()
    if not in_play:
        return Readiness(status="unavailable", reason="the inventory has no host for this gateway")
    live = [number for number in in_play if roster.seen[number].state is not State.DOWN]
    if not live:
        if all(roster.seen[number].is_new for number in in_play):
            return Readiness(status="unavailable", reason="no host has answered yet")
        return Readiness(status="unavailable", reason="no host can be reached")
    if all(roster.backends[number].node in roster.drained for number in live):
        return Readiness(status="unavailable", reason="every host that can be reached is drained")
    return Readiness(status="ready")


def pages(parts: Parts) -> Sequence[WebRoute]:
    async def healthz(_request: Request) -> Response:
        return json_response({"status": "ok"})

    async def readyz(_request: Request) -> Response:
        ready = readiness(parts.roster)
        if ready.status == "ready":
            return response(msgspec.json.encode(ready), JSON)
        return response(msgspec.json.encode(ready), JSON, 503, {"Retry-After": str(RETRY_AFTER)})

    return [WebRoute("/healthz", healthz), WebRoute("/readyz", readyz)]
