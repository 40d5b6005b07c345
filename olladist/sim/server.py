"""The HTTP side of the simulated Ollama: an ASGI application that takes requests through gin's rules to the handlers.

Plain ASGI, because every page that a framework would make itself (404, 405, redirects, errors) has to look as gin's, and because
a client that leaves must end its request at once wherever it is: in the queue, in a load, between two words.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, MutableMapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any, TypeAlias

from olladist.ollama.gojson import quote
from olladist.sim import anthropic, front, inference, library, openai, responses, shapes
from olladist.sim.create import create
from olladist.sim.front import Page
from olladist.sim.golang import Document, Malformed, Shape, decode
from olladist.sim.inference import Server
from olladist.sim.reply import (
    JSON,
    JSON_UTF8,
    NATIVE,
    Answer,
    Failure,
    Refused,
    Reply,
    Stream,
    Writer,
    native_error,
)

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Handler: TypeAlias = Callable[[Server, AsyncExitStack, Document], Awaitable[Reply]]
Translate: TypeAlias = Callable[[bytes], tuple[Document, Writer]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A handler, how its requests are read, and how a request that cannot be read is refused."""

    handle: Handler
    translate: Translate
    refuse: Callable[[int, str], bytes] = native_error


def _native(shape: Shape) -> Translate:
    return lambda body: (decode(body, shape), NATIVE)


def _nothing(body: bytes) -> tuple[Document, Writer]:
    return {}, NATIVE


async def _version(server: Server, stack: AsyncExitStack, request: Document) -> Reply:
    return Answer({"version": server.settings.version})


async def _status(server: Server, stack: AsyncExitStack, request: Document) -> Reply:
    return Answer({"cloud": {"disabled": False, "source": "none"}})


_ROUTES: Mapping[str, Endpoint] = {
    "/api/version": Endpoint(_version, _nothing),
    "/api/status": Endpoint(_status, _nothing),
    "/api/tags": Endpoint(library.tags, _nothing),
    "/api/ps": Endpoint(library.ps, _nothing),
    "/api/show": Endpoint(library.show, _native(shapes.SHOW)),
    "/api/copy": Endpoint(library.copy, _native(shapes.COPY)),
    "/api/delete": Endpoint(library.delete, _native(shapes.DELETE)),
    "/api/pull": Endpoint(library.pull, _native(shapes.PULL)),
    "/api/push": Endpoint(library.push, _native(shapes.PUSH)),
    "/api/create": Endpoint(create, _native(shapes.CREATE)),
    "/api/generate": Endpoint(inference.generate, _native(shapes.GENERATE)),
    "/api/chat": Endpoint(inference.chat, _native(shapes.CHAT)),
    "/api/embed": Endpoint(inference.embed, _native(shapes.EMBED)),
    "/api/embeddings": Endpoint(inference.embeddings, _native(shapes.EMBEDDINGS)),
    "/v1/models": Endpoint(library.tags, openai.models, openai.error),
    "/v1/models/:model": Endpoint(library.show, _nothing, openai.error),
    "/v1/chat/completions": Endpoint(inference.chat, openai.chat, openai.error),
    "/v1/completions": Endpoint(inference.generate, openai.completion, openai.error),
    "/v1/embeddings": Endpoint(inference.embed, openai.embeddings, openai.error),
    "/v1/responses": Endpoint(inference.chat, responses.request, openai.error),
    "/v1/messages": Endpoint(inference.chat, anthropic.messages, anthropic.error),
}
_METHODS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(_ROUTES, ("POST",)),
    **dict.fromkeys(("/api/status", "/api/ps", "/v1/models", "/v1/models/:model"), ("GET",)),
    **dict.fromkeys(("/", "/api/version", "/api/tags"), ("HEAD", "GET")),
    "/api/delete": ("DELETE",),
    "/api/blobs/:digest": ("HEAD", "POST"),
}
_PATTERNS = tuple(_METHODS)


class App:
    """One simulated Ollama behind uvicorn."""

    def __init__(self, server: Server, *, loopback: bool) -> None:
        self.server = server
        self.loopback = loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = time.perf_counter()
        exchange = _Exchange(self.server, scope, receive, send)
        try:
            await exchange.run(loopback=self.loopback)
        except _Gone:
            return  # nobody is there to be told
        finally:
            _log(scope, exchange.status, time.perf_counter() - begun)


class _Gone(Exception):
    """The client has left."""


class _Exchange:
    """One request and its answer."""

    def __init__(self, server: Server, scope: Scope, receive: Receive, send: Send) -> None:
        self.server = server
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        self.receive = receive
        self.send = send
        self.extra: dict[str, str] = {}
        self.status = 499  # what the log shows for a client that left

    async def run(self, *, loopback: bool) -> None:
        if page := front.redirect(self.method, self.path, _PATTERNS):
            await self.page(page)
            return
        found = front.match(self.path, _PATTERNS)
        methods = _METHODS[found[0]] if found else ()
        origins = self.server.settings.origins
        refused, self.extra = front.check(self.method, self.headers, methods, loopback=loopback, origins=origins)
        if refused is not None or found is None:
            await self.page(refused or Page(404))
        elif found[0] == "/":
            await self.page(Page(200, b"Ollama is running", {"content-type": "text/plain; charset=utf-8"}))
        elif found[0] == "/api/blobs/:digest":
            await self.blob(found[1])
        else:
            body = b"".join([chunk async for chunk in self.body()])
            await self.until_gone(self.answer(*found, body))

    async def body(self) -> AsyncIterator[bytes]:
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            yield message.get("body", b"")
            if not message.get("more_body"):
                return

    async def until_gone(self, work: Coroutine[Any, Any, None]) -> None:
        """Does the work, and drops it at once when the client leaves."""
        task, gone = asyncio.ensure_future(work), asyncio.ensure_future(self.receive())
        try:
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            left = not task.done()
            task.cancel()
            gone.cancel()
            await asyncio.wait({task, gone})
        if left:
            raise _Gone
        task.result()

    async def answer(self, pattern: str, parameter: str, body: bytes) -> None:
        """Translates, handles and writes one JSON request."""
        endpoint = _ROUTES[pattern]
        try:
            if pattern == "/v1/responses" and self.headers.get("content-encoding") == "zstd":
                body = responses.inflate(body)
            request, writer = openai.model(parameter) if parameter else endpoint.translate(body)
        except Malformed as error:
            text = "missing request body" if error.empty and endpoint.refuse is native_error else str(error)
            await self.whole(400, JSON_UTF8, endpoint.refuse(400, text))
            return
        except Refused as error:
            await self.whole(error.status, JSON_UTF8, endpoint.refuse(error.status, error.text))
            return
        self.extra |= {key.lower(): value for key, value in writer.headers.items()}
        async with AsyncExitStack() as stack:
            try:
                reply = await endpoint.handle(self.server, stack, request)
            except Refused as error:
                await self.whole(error.status, writer.failure_type, writer.failure(error.status, error.text))
                return
            if isinstance(reply, Stream):
                await self.stream(reply, writer)
            elif reply.document is None:
                await self.whole(reply.status, "", b"")
            else:
                body = writer.answer(reply.document)
                await self.whole(reply.status, writer.answer_type or reply.content_type, body)

    async def stream(self, reply: Stream, writer: Writer) -> None:
        """Chunk by chunk; a failure before the first one still has a status of its own (streamResponse)."""
        started = False
        async with aclosing(reply.documents) as documents:
            async for document in documents:
                if isinstance(document, Failure) and not started:
                    await self.whole(document.status, JSON, writer.failure(document.status, document.text))
                    return
                if not started:
                    started = True
                    await self.start(200, writer.stream_type)
                line = {"error": document.text} if isinstance(document, Failure) else document
                for piece in events(writer.chunk(line)):
                    await self.send({"type": "http.response.body", "body": piece, "more_body": True})
        if not started:
            await self.start(200, writer.stream_type)
        await self.send({"type": "http.response.body", "body": b""})

    async def blob(self, digest: str) -> None:
        try:
            if self.method == "HEAD":
                reply: Answer = library.has_blob(self.server, digest)
            else:
                reply = await library.add_blob(self.server, digest, self.body())
            await self.whole(reply.status, "", b"")
        except Refused as error:
            await self.whole(error.status, JSON_UTF8, native_error(error.status, error.text))

    async def page(self, page: Page) -> None:
        self.extra |= page.headers or {}
        await self.whole(page.status, self.extra.pop("content-type", ""), page.body)

    async def whole(self, status: int, content_type: str, body: bytes) -> None:
        """An answer in one piece; its length goes out with it but for 204, which has no body."""
        await self.start(status, content_type, None if status == 204 else len(body))
        await self.send({"type": "http.response.body", "body": body})

    async def start(self, status: int, content_type: str, length: int | None = None) -> None:
        self.status = status
        headers = self.extra | ({"content-type": content_type} if content_type else {})
        if length is not None:
            headers["content-length"] = str(length)
        pairs = [(key.encode("latin-1"), value.encode("latin-1")) for key, value in headers.items()]
        await self.send({"type": "http.response.start", "status": status, "headers": pairs})


def _log(scope: Scope, status: int, seconds: float) -> None:
    """One line for each request, as gin writes it."""
    when = time.strftime("%Y/%m/%d - %H:%M:%S")
    client = scope["client"][0] if scope.get("client") else ""
    took = f"{seconds * 1000:.6g}ms" if seconds < 1 else f"{seconds:.6g}s"
    line = f"[GIN] {when} | {status} | {took:>13} | {client:>15} | {scope['method']:<7} {quote(scope['path'])}"
    print(line, file=sys.stderr, flush=True)  # noqa: T201  this is the server's log


def events(data: bytes) -> list[bytes]:
    """Named events go out as chunks of their own, as Ollama flushes them; OpenAI's last ones do not."""
    if not data.startswith(b"event: "):
        return [data]
    return [event + b"\n\n" for event in data.split(b"\n\n") if event]
