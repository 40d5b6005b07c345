"""What the operator asks of a gateway that runs: POST /admin/reload, GET /admin/drain, POST /admin/drain and /admin/undrain."""

from collections.abc import Awaitable, Callable, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from olladist.errors import OlladistError, UsageError
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.reload import not_reloaded
from olladist.gateway.control.rights import must_administrate, who
from olladist.gateway.control.web import JSON, json_response, read_whole, response

_BYTES_MAX = 64 * 2**10


class DrainRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`nodes`: hosts, nodes, groups or patterns of them. `force`: also where a model has no other holder."""

    nodes: tuple[str, ...]
    force: bool = False


def pages(parts: Parts) -> Sequence[Route]:
    def administrators(answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def checked(request: Request) -> Response:
            return must_administrate(who(request, parts), parts.settings) or await answer(request)

        return checked

    async def reload(_request: Request) -> Response:
        try:
            return _document(await parts.reload.again())
        except OlladistError as error:
            return _document(not_reloaded(error), 422)

    async def drained(_request: Request) -> Response:
        return _document(parts.drain.now())

    async def drain(request: Request) -> Response:
        asked = await _asked(request)
        return _document(parts.drain.drain(asked.nodes, force=asked.force))

    async def undrain(request: Request) -> Response:
        return _document(parts.drain.undrain((await _asked(request)).nodes))

    return [
        Route("/admin/reload", administrators(reload), methods=["POST"]),
        Route("/admin/drain", administrators(drained), methods=["GET"]),
        Route("/admin/drain", administrators(_refusing(drain)), methods=["POST"]),
        Route("/admin/undrain", administrators(_refusing(undrain)), methods=["POST"]),
    ]


async def _asked(request: Request) -> DrainRequest:
    body = await read_whole(request, _BYTES_MAX)
    try:
        return msgspec.json.decode(body or b"", type=DrainRequest)
    except msgspec.MsgspecError as error:
        raise UsageError(f"the body is not as it should be: {error}", hint='{"nodes": ["gpu1"]}') from error


def _refusing(answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """A wrong question is 400, one that must not be carried out 409; both say what to do instead."""

    async def refusing(request: Request) -> Response:
        try:
            return await answer(request)
        except OlladistError as error:
            said = {"error": error.message, "hint": error.hint}
            return json_response(said, 400 if isinstance(error, UsageError) else 409)

    return refusing


def _document(document: msgspec.Struct, status: int = 200) -> Response:
    return response(msgspec.json.encode(document), JSON, status)
