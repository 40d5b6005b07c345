"""Whole responses of the gateway's own: errors, in the shape that the client's protocol has for them."""

from http import HTTPStatus

from olladist.gateway.edge.upstream import Upstream
from olladist.ollama.framing import error_body, error_content_type, stream_error
from olladist.ollama.routes import NDJSON, Dialect, Route

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def error(
    dialect: Dialect,
    status: int,
    text: str,
    added: bytes,
    *,
    close: bool,
    malformed: bool = False,
    retry_after: int = 0,
    bodiless: bool = False,
) -> bytes:
    """`added` are whole header lines; `malformed` says that the body of the request was at fault; `bodiless` is for HEAD."""
    body = error_body(dialect, status, text, malformed=malformed)
    lines = [
        f"HTTP/1.1 {status} {_phrase(status)}",
        f"Content-Type: {error_content_type(dialect, malformed=malformed)}",
        f"Content-Length: {len(body)}",
        *([f"Retry-After: {retry_after}"] if retry_after else []),
        *(["Connection: close"] if close else []),
    ]
    head = "\r\n".join(lines).encode("ascii") + b"\r\n" + added + b"\r\n"
    return head if bodiless else head + body


def error_line(route: Route, upstream: Upstream, text: str) -> bytes | None:
    """What ends a stream whose backend has left it, in the client's own protocol; None where no line can follow.

    One can where what was passed ends with a whole line, in a whole chunk if there are chunks. JSON has no raw CR in it, so the
    bytes that end a line and a chunk can be nothing else.
    """
    if upstream.framing >= 0:
        return None
    end = b"\n" if upstream.field(b"content-type").startswith(NDJSON.encode()) else b"\n\n"
    if upstream.received and not b"".join(upstream.last).endswith(end + b"\r\n" if upstream.chunked else end):
        return None
    line = stream_error(route.dialect, text, events=route.name == "v1/responses")
    return chunk(line) + LAST_CHUNK if upstream.chunked else line


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
