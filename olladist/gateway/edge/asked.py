"""What a request for inference asks for: of Ollama in its body, of the gateway in header fields of its own. Pure."""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

import zstandard

from olladist.gateway.edge import kept
from olladist.gateway.edge.head import RequestHead
from olladist.gateway.lease import Key
from olladist.ollama.request import BadBody, ModelRequest, read_body
from olladist.ollama.routes import Dialect, Route

# Ollama's own limits (middleware/openai.go): of the body, and of the memory for reading it, which bounds zstd's window.
UNPACKED_BYTES_MAX: Final = 20 * 2**20
_WINDOW_BYTES_MAX: Final = 8 * 2**20

TIMEOUT_FIELD: Final = b"x-ollama-timeout"
CACHE_FIELD: Final = b"x-ollama-cache"
_READ: Final = frozenset({TIMEOUT_FIELD, CACHE_FIELD, b"content-encoding"})


class Wants(NamedTuple):
    """What goes into an Ask besides the model, in its order."""

    key: str = ""
    cache: str = ""
    keep: bool = False
    deadline: float = 0.0


NOTHING: Final = Wants()


def fields_of(head: RequestHead) -> dict[bytes, bytes]:
    """The values of the header fields that say something to the gateway, by their names."""
    return {name: line.partition(b":")[2].strip(b" \t") for name, line in head.lines if name in _READ}


def read_asked(
    fields: Mapping[bytes, bytes], body: bytes, route: Route, key: Key | None, may_keep: Callable[[], bool]
) -> tuple[ModelRequest, Wants]:
    """`fields` are those of `fields_of`; `may_keep` is asked where an answer may be kept and the client says nothing of it.

    Raises BadBody where Ollama would refuse the body, or where a field of ours makes no sense.
    """
    if fields and fields.get(b"content-encoding") == b"zstd" and route.dialect is not Dialect.OLLAMA:
        body = _unpacked(body)
    request = read_body(body, route)
    if not fields and not (kept.may_be_kept(route, request) and may_keep()):
        return request, _of_key(key.name) if key is not None else NOTHING  # most requests
    name = key.name if key is not None else ""
    digest = kept.digest(route, name, request, body, fields.get(CACHE_FIELD, b""))
    return request, Wants(name, digest, bool(digest), _deadline(fields.get(TIMEOUT_FIELD)))


_of_key = lru_cache(1024)(Wants)  # of nothing else


def _unpacked(body: bytes) -> bytes:
    """The body as JSON, for us to read the model; the backend gets it as it came.

    0.17.4 reads packed bodies on /v1/responses, later ones on every route of OpenAI's and Anthropic's. One that does not will
    say so itself.
    """
    unpacker = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES_MAX)
    try:
        unpacked = unpacker.stream_reader(body, read_across_frames=True).read(UNPACKED_BYTES_MAX + 1)
    except zstandard.ZstdError:
        return body  # as 0.17.4 reads it on all routes but one; it is no JSON
    if len(unpacked) > UNPACKED_BYTES_MAX:
        raise BadBody("http: request body too large")
    return unpacked


def _deadline(value: bytes | None) -> float:
    if value is None:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not (math.isfinite(seconds) and seconds > 0):
        raise BadBody(f"X-Ollama-Timeout: {value.decode('latin-1')!r} is not a number of seconds")
    return seconds
