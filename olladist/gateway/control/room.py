"""Has a node let go of models that nobody uses there, so that another can be loaded in their place."""

import msgspec
import structlog

from olladist.gateway.control.roster import Roster
from olladist.gateway.control.upstreams import Failed, Upstreams, fetch

# Ollama answers as soon as it has begun to unload. A node that does not is sent the request all the same, and chooses itself.
WITHIN = 2.0
_ANSWER_BYTES_MAX = 64 * 2**10

log = structlog.get_logger()


async def make_room(roster: Roster, upstreams: Upstreams, number: int, models: tuple[str, ...]) -> None:
    """Ends when the node has been told, or does not answer; an empty name is a model that it does not list any more."""
    backend = roster.backends.get(number)
    if backend is None:
        return
    for model in filter(None, models):
        body = msgspec.json.encode({"model": model, "keep_alive": 0})
        try:
            await fetch(
                upstreams.client(backend),
                "POST",
                "/api/generate",
                content=body,
                bytes_max=_ANSWER_BYTES_MAX,
                within=WITHIN,
            )
        except Failed as failed:
            log.warning("model not unloaded", node=backend.node, model=model, problem=str(failed))
