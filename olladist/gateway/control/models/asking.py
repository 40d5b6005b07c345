"""What all routes that change models begin with, and asking one host for a change."""

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from olladist.gateway.control import refusals
from olladist.gateway.control.backends import Backend, Role
from olladist.gateway.control.caller import Caller
from olladist.gateway.control.models.targets import Store, stores
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.rights import must_manage, must_use, who
from olladist.gateway.control.upstreams import Answered, Failed, fetch
from olladist.gateway.control.web import BODY_BYTES_MAX, error_response, read_whole, response
from olladist.gateway.lease import Ask
from olladist.ollama.names import split_name
from olladist.ollama.refusal import refusal
from olladist.ollama.request import BadBody, read_body
from olladist.ollama.routes import Route
from olladist.scheduling.health import State

# Removing the blobs of a large model from a slow disk takes some seconds.
WITHIN = 60.0
ANSWER_BYTES_MAX = 2**20
# Who holds a model is asked anew before it is changed everywhere; a host that takes longer is known by its last listing.
PATIENCE = 1.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request for a change: its body as it came, and the model it names, which is a name and which the caller may use."""

    body: bytes
    model: str
    stream: bool

    @property
    def key(self) -> str:
        return split_name(self.model).key


async def read_request(parts: Parts, request: Request, route: Route) -> tuple[Wanted, Caller] | Response:
    """What is to be changed and who wants it; or the refusal: of a caller who may not, or in Ollama's words."""
    caller = who(request, parts)
    if denied := must_manage(caller):
        return denied
    try:
        body = await read_whole(request)
        if body is None:
            return error_response(route.dialect, 413, f"a body of more than {BODY_BYTES_MAX} bytes")
        asked = read_body(body, route)
    except ClientDisconnect:
        return Response(status_code=499)  # nobody reads it
    except BadBody as bad:
        return error_response(route.dialect, bad.status, bad.text, malformed=True)
    # A push of what is no name is refused in the stream, by the Ollama itself.
    if not split_name(asked.model).is_valid() and (route.name != "push" or not asked.model):
        return error_response(route.dialect, *refusal(route, asked.model))
    return must_use(caller, route, asked.model) or (Wanted(body, asked.model, asked.stream), caller)


async def look(parts: Parts) -> None:
    """What hosts have now, also what was put there this moment."""
    live = [number for number, seen in parts.roster.seen.items() if seen.state is not State.DOWN]
    await parts.prober.read_tags(live, PATIENCE)


def roles(parts: Parts) -> tuple[Role, ...]:
    """Whose models a change is for: the mode's first choice, and what stands in for it now, for that is what clients see listed."""
    return tuple(dict.fromkeys((parts.roster.serving.order[0], parts.roster.shown_role())))


def all_stores(parts: Parts, key: str) -> list[Store]:
    return [store for role in roles(parts) for store in stores(parts.roster, role, key)]


def nobody_has_it(parts: Parts, route: Route, model: str) -> Response:
    """404 in Ollama's words where all that can be asked have said so, 503 where somebody may have it who cannot be asked."""
    refused = refusals.refuse(Ask(0, model, route.name), parts.roster, split_name(model).key)
    return error_response(route.dialect, refused.status, refused.text, retry_after=refused.retry_after)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a change went on one host; without an answer `failed` says why there is none, and nobody knows what was done."""

    store: Store
    answer: Answered | None = None
    node: str = ""
    failed: str = ""

    @property
    def status(self) -> int:
        return self.answer.status if self.answer else 0

    @property
    def why(self) -> str:
        """Why it was not done."""
        return error_text(self.answer) if self.answer else self.failed


async def ask(parts: Parts, store: Store, route: Route, body: bytes) -> Outcome:
    """Asks the host's first Ollama that can be reached."""
    failed = "it cannot be reached"
    for backend in store.backends:
        try:
            return Outcome(store, await ask_node(parts, backend, route, body), backend.node)
        except Failed as failure:
            failed = str(failure)
    return Outcome(store, failed=failed)


async def ask_node(parts: Parts, backend: Backend, route: Route, body: bytes) -> Answered:
    client = parts.upstreams.unbounded(backend)
    return await fetch(client, route.methods[0], route.path, content=body, bytes_max=ANSWER_BYTES_MAX, within=WITHIN)


def as_it_is(answer: Answered, node: str) -> Response:
    """A node's answer for the client."""
    headers = {"X-Ollama-Node": node}
    if not answer.content_type:
        return Response(answer.body, answer.status, headers)
    return response(answer.body, answer.content_type, answer.status, headers)


def error_text(answer: Answered) -> str:
    """The words of an answer that is an error."""
    try:
        document = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        document = None
    if isinstance(document, dict) and isinstance(document.get("error"), str):
        return str(document["error"])
    text = answer.body[:200].decode("utf-8", "replace").strip()
    return text or f"it answered {answer.status}"


def shown(hosts: Iterable[str], most: int = 5) -> str:
    """Names for a sentence, not more than are read."""
    names = list(hosts)
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
