"""Our own endpoints that move models between hosts."""

from collections.abc import Sequence

from starlette.routing import Route

from olladist.gateway.control.moves.changes import Changes
from olladist.gateway.control.moves.leaving import Leaving
from olladist.gateway.control.moves.migrate import Migrations
from olladist.gateway.control.moves.rebalance import Rebalances
from olladist.gateway.control.parts import Parts


def pages(parts: Parts) -> Sequence[Route]:
    changes, leaving = Changes(), Leaving(parts)
    return [
        Route("/api/distributed/migrate", Migrations(parts, changes, leaving).answer, methods=["POST"]),
        Route("/api/distributed/rebalance", Rebalances(parts, changes, leaving).answer, methods=["POST"]),
    ]
