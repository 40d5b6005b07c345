"""POST /api/create: one node makes the model, and what it has made is copied to the others, so that all have the same digest."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from weakref import WeakValueDictionary

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from olladist.errors import OlladistError
from olladist.gateway.control.backends import Backend
from olladist.gateway.control.lease_server import LOOK_AGAIN
from olladist.gateway.control.models.progress import SUCCESS, Line
from olladist.gateway.control.moves.hearing import Tell, heard, is_last, streamed
from olladist.gateway.control.moves.stores import why
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.rights import must_manage, must_use, who
from olladist.gateway.control.uploads.blobs import RETRY_AFTER
from olladist.gateway.control.uploads.bringing import bring_blobs
from olladist.gateway.control.uploads.builder import Candidate, choose_builder, where_to_copy_from
from olladist.gateway.control.uploads.nodes import Nodes
from olladist.gateway.control.uploads.request import Needs, read_needs
from olladist.gateway.control.uploads.spread import Spreader
from olladist.gateway.control.upstreams import Exchange, Failed, fetch
from olladist.gateway.control.web import Answer, error_response, response
from olladist.ollama import framing
from olladist.ollama.names import split_name
from olladist.ollama.request import BadBody, ModelRequest, read_body
from olladist.ollama.routes import NDJSON, Route

# Messages may carry images: as for inference (settings.Limits.body).
_BODY_BYTES_MAX = 64 * 2**20
_ANSWER_BYTES_MAX = 8 * 2**20
# A HEAD for a blob is one stat(2) on the host; safetensors come in hundreds of files.
_LOOK_SECONDS = 5.0
_LOOKS_AT_ONCE = 8
# From this line on the name means something new on the builder: from here a create is finished whoever leaves (server/create.go).
_WRITING = "writing manifest"


class Creator:
    def __init__(self, parts: Parts, nodes: Nodes, spreader: Spreader) -> None:
        self._parts = parts
        self._nodes = nodes
        self._spreader = spreader
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def answers(self) -> Mapping[str, Answer]:
        return {"create": self.create}

    async def create(self, request: Request, route: Route) -> Response:
        caller = who(request, self._parts)
        if denied := must_manage(caller):
            return denied
        try:
            body = await _body(request)
            if body is None:
                return error_response(route.dialect, 413, f"a body of more than {_BODY_BYTES_MAX} bytes")
            asked, needs = read_body(body, route), read_needs(body)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it
        except BadBody as bad:
            return error_response(route.dialect, bad.status, bad.text, malformed=True)
        for model in filter(None, (asked.model, needs.base)):
            if refused := must_use(caller, route, model):
                return refused
        backends = {backend.node: backend for backend in self._nodes.for_uploads()}
        candidates = await self._candidates(list(backends.values()), needs)
        chosen = choose_builder(candidates, needs.blobs)
        if chosen is None:
            return error_response(route.dialect, 503, "no host can be reached", retry_after=RETRY_AFTER)
        lacking = where_to_copy_from(candidates, needs.blobs, chosen)
        making = Making(self._parts, self._spreader, asked, body, lacking)
        making.turn = self._turns.setdefault(split_name(asked.model).key, making.turn)
        return await making.answer(route, backends[chosen.node])

    async def _candidates(self, backends: Sequence[Backend], needs: Needs) -> list[Candidate]:
        """The nodes that answer, with what they have of it: they are asked, for a blob may have come in any way."""
        key = split_name(needs.base).key if needs.base else ""
        seen = self._parts.roster.seen
        if key and not any(key in seen[backend.id].keys for backend in backends):
            await self._parts.prober.refresh_tags(older_than=LOOK_AGAIN, within=LOOK_AGAIN)  # it may have come since
        having = await asyncio.gather(*(self._blobs_on(backend, needs.blobs) for backend in backends))
        return [
            Candidate(backend.node, not key or key in seen[backend.id].keys, blobs)
            for backend, blobs in zip(backends, having, strict=True)
            if blobs is not None
        ]

    async def _blobs_on(self, backend: Backend, digests: frozenset[str]) -> frozenset[str] | None:
        """None for a node that does not answer."""
        client = self._parts.upstreams.client(backend)
        gate = asyncio.Semaphore(_LOOKS_AT_ONCE)

        async def look(path: str) -> int:
            async with gate:
                return (await fetch(client, "HEAD", path, bytes_max=0, within=_LOOK_SECONDS)).status

        ordered = sorted(digests)
        paths = [f"/api/blobs/{digest}" for digest in ordered] or ["/api/version"]
        answers = await asyncio.gather(*map(look, paths), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, Failed):
                self._nodes.failed(backend, answer)
                return None
            if isinstance(answer, BaseException):
                raise answer
        return frozenset(digest for digest, status in zip(ordered, answers, strict=False) if status == 200)


class Making:
    """One create on its way. It begins with what is checked before the first line, for that has a status of its own."""

    def __init__(
        self, parts: Parts, spreader: Spreader, asked: ModelRequest, body: bytes, lacking: Mapping[str, str]
    ) -> None:
        """`lacking`: blobs that the builder has not got, and the node that has each."""
        self.turn = asyncio.Lock()
        self._parts = parts
        self._spreader = spreader
        self._asked = asked
        self._body = body
        self._lacking = lacking
        self._written = False
        self._refused: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()

    async def answer(self, route: Route, backend: Backend) -> Response:
        async def work(tell: Tell) -> None:
            # One at a time for a name: two would copy over each other. The second goes after the first, as on one Ollama.
            async with self.turn:
                await self._make(route, backend, tell)

        told = heard(self._parts.stores, work, lambda: self._written)
        headers = {"X-Ollama-Node": backend.node}
        if not self._asked.stream:
            return await self._whole(told, headers)
        first = await anext(told)
        if self._refused.done() and (refused := self._refused.result()):
            await told.aclose()
            return refused
        return streamed(_after(first, told), headers)

    async def _whole(self, told: AsyncGenerator[Line, None], headers: dict[str, str]) -> Response:
        last: Line = {}
        async for line in told:
            last = line
        if self._refused.done() and (refused := self._refused.result()):
            return refused
        status = 500 if "error" in last else 200
        return response(framing.encode(last), "application/json; charset=utf-8", status, headers)

    async def _make(self, route: Route, builder: Backend, tell: Tell) -> None:
        try:
            if self._lacking:
                await bring_blobs(self._parts, builder, self._lacking, tell)
            body = self._body
            async with self._parts.upstreams.stream(builder, "POST", route.path, content=body) as exchange:
                done = await self._pass_on(exchange, builder, tell)
        except Failed as failed:
            self._parts.roster.ended(builder.id, "died")
            tell({"error": f"{builder.node} did not finish: {failed}"})
            return
        except OlladistError as error:
            tell({"error": f"its blobs cannot be brought to {builder.node}: {why(error)}"})
            return
        if done is None:
            return
        await self._spreader.created(split_name(self._asked.model).key, builder, tell)
        tell(done)

    async def _pass_on(self, exchange: Exchange, builder: Backend, tell: Tell) -> Line | None:
        """The builder's lines but for its success, which is returned; None where there was none."""
        if exchange.status != 200 or NDJSON not in exchange.content_type:
            body = await exchange.body(_ANSWER_BYTES_MAX)
            if exchange.status == 200:
                return SUCCEEDED
            # What Ollama refuses before it begins has a status; the line is for a client that hears lines already.
            answer = response(body, exchange.content_type, exchange.status, {"X-Ollama-Node": builder.node})
            self._refused.set_result(answer)
            tell({"error": _text(body)})
            return None
        async for raw in exchange.lines():
            line = _line(raw)
            if line.get("status") == SUCCESS:
                return line
            self._written = self._written or line.get("status") == _WRITING
            tell(line)
            if is_last(line):
                return None
        raise Failed("the stream of progress ended without success")


SUCCEEDED: Line = {"status": SUCCESS}


async def _after(first: Line, told: AsyncGenerator[Line, None]) -> AsyncGenerator[Line, None]:
    try:
        yield first
        async for line in told:
            yield line
    finally:
        await told.aclose()


def _line(raw: bytes) -> Line:
    try:
        return msgspec.json.decode(raw, type=dict)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Failed(f"a line of its progress cannot be read: {error}") from error


def _text(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=dict[str, str]).get("error", "")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body[:200].decode("utf-8", "replace")


async def _body(request: Request) -> bytes | None:
    """The whole body; None where it is too large."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _BODY_BYTES_MAX:
            return None
    return bytes(body)
