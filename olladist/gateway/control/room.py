"""Has a node let go of models that nobody uses there, or load one for requests to come."""

import msgspec
import structlog

from olladist.gateway.control.queue import Preloading
from olladist.gateway.control.roster import Roster
from olladist.gateway.control.upstreams import Failed, Upstreams, fetch
from olladist.ollama.request import read_runner_options

# Ollama answers as soon as it has begun to unload. A node that does not is sent the request all the same, and chooses itself.
WITHIN = 2.0
# Ollama gives up a load that makes no progress for 5 minutes (OLLAMA_LOAD_TIMEOUT); one from a slow disk may take longer.
LOADED_WITHIN = 900.0
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


async def preload(roster: Roster, upstreams: Upstreams, load: Preloading) -> bool:
    """Whether the model is in the node's memory now; why not is logged."""
    backend = roster.backends.get(load.node)
    if backend is None or not load.model:
        return False
    try:
        client, options = upstreams.unbounded(backend), read_runner_options(load.options)
        # What only embeds refuses to generate: 400 (server/routes.go, scheduleRunner's capabilities). Without input both only load.
        for path in ("/api/generate", "/api/embed"):
            body = msgspec.json.encode({"model": load.model, "options": options, "input": ""})
            answer = await fetch(client, "POST", path, content=body, bytes_max=_ANSWER_BYTES_MAX, within=LOADED_WITHIN)
            if answer.status != 400:
                break
        if answer.status == 200:
            log.info("model loaded on another node", node=backend.node, model=load.model)
            return True
        problem = answer.body[:200].decode("utf-8", "replace")
    except (Failed, ValueError) as failed:
        problem = str(failed)
    log.warning("model not loaded on another node", node=backend.node, model=load.model, problem=problem)
    return False
