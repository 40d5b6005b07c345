"""Answers that come from one node as they are: the first that has them."""

from collections.abc import Iterable
from dataclasses import dataclass

from starlette.requests import Request

from olladist.gateway.control import refusals
from olladist.gateway.control.backends import Backend
from olladist.gateway.control.catalog import merge_tags, openai_model
from olladist.gateway.control.lease_server import LOOK_AGAIN
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.upstreams import Answered, Failed, fetch
from olladist.gateway.control.web import BODY_BYTES_MAX, read_whole
from olladist.gateway.lease import Ask
from olladist.ollama import framing
from olladist.ollama.names import split_name
from olladist.ollama.request import BadBody, read_body
from olladist.ollama.routes import Route, parameter
from olladist.scheduling.health import State

# `verbose` gives every token of the vocabulary: 256 000 of them and as many merges are about 15 MB.
ANSWER_BYTES_MAX = 64 * 2**20
# Reading the head of a GGUF from a cold disk takes a second or two; a host that hangs must not be the end of it.
WITHIN = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    content_type: str
    node: str = ""
    retry_after: int = 0


class Shower:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def show(self, request: Request, route: Route) -> Answer:
        """POST /api/show: what the first holder says that does not say 404."""
        body = await read_whole(request)
        if body is None:
            return _error(route, 413, f"a body of more than {BODY_BYTES_MAX} bytes")
        try:
            model = read_body(body, route).model
        except BadBody as bad:
            return _error(route, bad.status, bad.text, malformed=True)
        key = split_name(model).key
        await self._look_again(key)
        tried: list[int] = []
        failed: Answer | None = None
        for backend in self._holders(key):
            tried.append(backend.id)
            try:
                answer = await self._ask(backend, "POST", "/api/show", body)
            except Failed:
                continue
            if answer.status == 404:
                self._parts.roster.forget(backend.id, key)
                self._parts.prober.check_tags(backend.id)
            elif answer.status < 500:
                return _of(backend, answer)
            else:
                failed = _of(backend, answer)
        return failed or self._refusal(route, model, tuple(tried))

    async def openai_model(self, request: Request, route: Route) -> Answer:
        """GET /v1/models/:model, out of the catalog."""
        model = parameter(request.scope.get("raw_path", b"").decode("latin-1") or request.url.path)
        key = split_name(model).key
        await self._look_again(key)
        listings = {node: seen.tags for node, seen in self._parts.roster.live().items() if key in seen.keys}
        for row in merge_tags(listings):
            if row.key == key:
                return Answer(200, framing.encode(openai_model(row, model)) + b"\n", "application/json")
        return self._refusal(route, model, ())

    async def any_node(self, request: Request, route: Route) -> Answer:
        """What any node says that answers: it is the same on all of them."""
        for backend in self._by_state(self._parts.roster.backends):
            try:
                return _of(backend, await self._ask(backend, request.method, route.path, None))
            except Failed:
                continue
        return _error(route, 503, "no host can be reached", retry_after=refusals.RETRY_AFTER)

    async def _ask(self, backend: Backend, method: str, path: str, body: bytes | None) -> Answered:
        client = self._parts.upstreams.client(backend)
        return await fetch(client, method, path, content=body, bytes_max=ANSWER_BYTES_MAX, within=WITHIN)

    async def _look_again(self, key: str) -> None:
        """A model that nobody has listed may have come since."""
        if not self._holders(key):
            await self._parts.prober.refresh_tags(older_than=LOOK_AGAIN, within=LOOK_AGAIN)

    def _holders(self, key: str) -> list[Backend]:
        return self._by_state(self._parts.roster.holders(key))

    def _by_state(self, numbers: Iterable[int]) -> list[Backend]:
        """Those that are not down, the ones that are well first."""
        roster = self._parts.roster
        states = {n: roster.seen[n].state for n in numbers if roster.seen[n].state is not State.DOWN}
        return [roster.backends[n] for n in sorted(states, key=lambda n: (states[n] is not State.UP, n))]

    def _refusal(self, route: Route, model: str, tried: tuple[int, ...]) -> Answer:
        refused = refusals.refuse(Ask(0, model, route.name, tried), self._parts.roster, split_name(model).key)
        return _error(route, refused.status, refused.text, retry_after=refused.retry_after)


def _of(backend: Backend, answer: Answered) -> Answer:
    return Answer(answer.status, answer.body, answer.content_type, backend.node)


def _error(route: Route, status: int, text: str, *, malformed: bool = False, retry_after: int = 0) -> Answer:
    body = framing.error_body(route.dialect, status, text, malformed=malformed)
    return Answer(status, body, framing.error_content_type(route.dialect, malformed=malformed), retry_after=retry_after)
