"""What the requests that move models have in common: how they are read and refused, and that there is one at a time."""

from typing import TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from olladist.errors import OlladistError
from olladist.gateway.control.web import error_response
from olladist.ollama.routes import Dialect

T = TypeVar("T")

# A name of a model has at most 600 characters, that of a host 63.
_BODY_BYTES_MAX = 64 * 2**10


class Refused(OlladistError):
    """An answer instead of what was asked for, before anything was done."""

    def __init__(self, status: int, text: str, *, retry_after: int = 0) -> None:
        super().__init__(text)
        self.status = status
        self.retry_after = retry_after

    def response(self) -> Response:
        return error_response(Dialect.OLLAMA, self.status, self.message, retry_after=self.retry_after)


class Changes:
    """What is being done to the whole fleet now, in words for whoever comes second."""

    def __init__(self) -> None:
        self._running = ""

    def begin(self, what: str) -> None:
        """Refused where something runs already. Whoever begins ends, whatever happens."""
        if self._running:
            raise Refused(409, f"{self._running} is under way: one change of the fleet at a time")
        self._running = what

    def end(self) -> None:
        self._running = ""


async def read(request: Request, kind: type[T]) -> T:
    """The body as one of our documents; nothing at all is an empty object."""
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > _BODY_BYTES_MAX:
                raise Refused(413, f"a body of more than {_BODY_BYTES_MAX} bytes")
    except ClientDisconnect:
        raise Refused(499, "the body was cut short") from None
    try:
        return msgspec.json.decode(bytes(body) or b"{}", type=kind)
    except msgspec.DecodeError as error:
        raise Refused(400, f"the body is not what this takes: {error}") from None
