"""What the answers of the control process are made of."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response

from olladist.ollama import framing
from olladist.ollama.routes import Dialect, Route

JSON = "application/json; charset=utf-8"

# Answers one of Ollama's routes; modules give theirs by the route's name.
Answer: TypeAlias = Callable[[Request, Route], Awaitable[Response]]


# What says which model is meant has some hundred bytes; with a system prompt and a template in it some ten KiB.
BODY_BYTES_MAX = 4 * 2**20


async def read_whole(request: Request, bytes_max: int = BODY_BYTES_MAX) -> bytes | None:
    """The whole body; None where it is too large."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > bytes_max:
            return None
    return bytes(body)


def response(body: bytes, content_type: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response with the content type as it stands: Starlette would add a charset to what is to be as gin writes it."""
    return Response(body, status, {"Content-Type": content_type, **(headers or {})})


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return response(framing.encode(value), JSON, status, headers)


def error_response(
    dialect: Dialect, status: int, text: str, *, malformed: bool = False, retry_after: int = 0
) -> Response:
    """In the shape of the client's protocol; `malformed` says that the body of the request was at fault."""
    headers = {"Retry-After": str(retry_after)} if retry_after else None
    body = framing.error_body(dialect, status, text, malformed=malformed)
    return response(body, framing.error_content_type(dialect, malformed=malformed), status, headers)
