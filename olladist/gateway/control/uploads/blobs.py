"""Blobs on their way to the node that will make a model of them: passed on as they come, of any size, with nothing kept.

What is answered is that node's own answer. A node that is away is passed over; its successor has not got the blob, says so (404), and the
client sends it again.
"""

from collections.abc import Mapping
from urllib.parse import quote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from olladist.gateway.control.backends import Backend
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.rights import must_manage, who
from olladist.gateway.control.uploads.nodes import Nodes
from olladist.gateway.control.uploads.sending import send
from olladist.gateway.control.upstreams import Exchange, Failed
from olladist.gateway.control.web import Answer, error_response
from olladist.ollama.routes import Route, parameter

# An answer to an upload is empty or one line.
_ANSWER_BYTES_MAX = 64 * 2**10
RETRY_AFTER = 5


class Blobs:
    def __init__(self, parts: Parts, nodes: Nodes) -> None:
        self._parts = parts
        self._nodes = nodes

    def answers(self) -> Mapping[str, Answer]:
        return {"blob-exists": self.exists, "blob-upload": self.upload}

    async def exists(self, request: Request, route: Route) -> Response:
        """HEAD /api/blobs/:digest: what the node says that would take the upload."""
        if denied := must_manage(who(request, self._parts)):
            return denied
        for backend in self._nodes.for_uploads():
            try:
                return await self._asked(backend, "HEAD", _path(request))
            except Failed as failed:
                self._nodes.failed(backend, failed)
        return _nobody(route)

    async def upload(self, request: Request, route: Route) -> Response:
        """POST /api/blobs/:digest.

        Ollama answers for a blob that it has, and for a digest that is none, before it reads the body. We ask first, so that no byte is sent
        in vain and nobody's answer is lost in the reset that would follow.
        """
        if denied := must_manage(who(request, self._parts)):
            return denied
        path = _path(request)
        for backend in self._nodes.for_uploads():
            try:
                known = await self._asked(backend, "HEAD", path)
                if known.status_code != 404:
                    return await self._asked(backend, "POST", path)
            except Failed as failed:
                self._nodes.failed(backend, failed)
                continue
            return await self._passed_on(request, route, backend, path)
        return _nobody(route)

    async def _asked(self, backend: Backend, method: str, path: str) -> Response:
        async with self._parts.upstreams.stream(backend, method, path) as exchange:
            self._nodes.uses(backend)
            return await _as_it_is(exchange, backend)

    async def _passed_on(self, request: Request, route: Route, backend: Backend, path: str) -> Response:
        length = request.headers.get("content-length")
        try:
            answer = await send(backend, path, request.stream(), int(length) if length is not None else None)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it
        except Failed as failed:
            self._nodes.failed(backend, failed, during="upload")
            text = f"{backend.node} did not take the blob: {failed}; send it again"
            return error_response(route.dialect, 502, text)
        headers = {"X-Ollama-Node": backend.node}
        if answer.content_type:
            headers["Content-Type"] = answer.content_type
        return Response(answer.body, answer.status, headers)


async def _as_it_is(exchange: Exchange, backend: Backend) -> Response:
    body = await exchange.body(_ANSWER_BYTES_MAX)
    answer = Response(body, exchange.status)
    for name in ("content-type", "content-length"):
        if name in exchange.headers:
            answer.headers[name] = exchange.headers[name]
    answer.headers["X-Ollama-Node"] = backend.node
    return answer


def _path(request: Request) -> str:
    raw = request.scope.get("raw_path", b"").decode("latin-1") or request.url.path
    return f"/api/blobs/{quote(parameter(raw), safe=':')}"


def _nobody(route: Route) -> Response:
    return error_response(route.dialect, 503, "no host can be reached that could take it", retry_after=RETRY_AFTER)
