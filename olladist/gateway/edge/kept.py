"""Answers that may be given again: which they are, under which digest, and the collecting of one as it passes. No I/O.

An answer may be kept where asking again would give the same one: vectors always, text where nothing is left to chance
(temperature 0, or a seed), anything where the client says so (`X-Ollama-Cache: keep`; `no` forbids it).
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from olladist.gateway.edge.chunked import Chunked
from olladist.gateway.edge.head import Refused
from olladist.ollama import gojson
from olladist.ollama.request import ModelRequest
from olladist.ollama.routes import Dialect, ModelIn, Route

# A chat of 200 000 tokens. What is longer is hardly asked twice, and reading it would hold up everybody else.
REQUEST_BYTES_MAX: Final = 2**20
# 40 vectors of 4096 numbers; 250 000 tokens of text, or 5 000 of a stream, whose lines repeat the model's name.
ANSWER_BYTES_MAX: Final = 2**20

_ALWAYS: Final = frozenset({"embed", "embeddings", "v1/embeddings"})
# Where the temperature stands: among Ollama's options, or beside the model.
_IN_OPTIONS: Final = frozenset({"generate", "chat"})
_ON_TOP: Final = frozenset({"v1/chat/completions", "v1/completions", "v1/responses", "v1/messages"})
# How long the model stays in memory afterwards changes nothing of the answer.
_NO_PART: Final = frozenset({"keep_alive", "stream"})


# Keeping an answer costs more than a small request does. What is asked in a flood is not asked again one by one: of that only a
# sample is kept, and the CPU time that takes is a hundredth of a core.
PER_SECOND: Final = 20.0
AT_ONCE: Final = 200.0


class Allowance:
    """How many answers may still be kept; `now` is of any clock that goes forwards."""

    __slots__ = ("_at", "_left")

    def __init__(self) -> None:
        self._left = AT_ONCE
        self._at = 0.0

    def take(self, now: float) -> bool:
        self._left = min(AT_ONCE, self._left + (now - self._at) * PER_SECOND)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def digest(route: Route, key: str, request: ModelRequest, body: bytes, said: bytes) -> str:
    """The name under which the answer to `body` is kept; "" where it must be fresh. `said` is X-Ollama-Cache.

    The same for every order of the members and any white space, and for a "stream" that was left out or spelled out. Another
    API key has other answers: nobody learns from their speed what others have asked.
    """
    said = said.lower()
    if said == b"no" or request.load or request.unload or len(body) > REQUEST_BYTES_MAX:
        return ""
    if route.model_in is not ModelIn.BODY or not (said == b"keep" or may_be_kept(route, request)):
        return ""
    try:
        members = json.loads(body.decode(), object_pairs_hook=_object, parse_float=_finite, parse_constant=_no_number)
        if not isinstance(members, dict) or not (said == b"keep" or _is_certain(route, members)):
            return ""
        asked = {name: value for name, value in members.items() if name not in _NO_PART}
        canonical = msgspec.json.encode([route.name, key, request.stream, asked], order="deterministic")
    except (ValueError, RecursionError, OverflowError):
        return ""  # what Go reads otherwise than we do, and what it refuses
    return hashlib.blake2b(canonical, digest_size=32).hexdigest()


def may_be_kept(route: Route, request: ModelRequest) -> bool:
    """Whether a closer look is worth it, where the client says nothing; costs next to nothing."""
    return request.sampling or route.name in _ALWAYS


def _is_certain(route: Route, members: Mapping[str, Any]) -> bool:
    if route.name in _ALWAYS:
        return True
    if route.name in _IN_OPTIONS:
        members = members.get("options") or {}
        if not isinstance(members, dict):
            return False
    elif route.name not in _ON_TOP:
        return False
    temperature, seed = members.get("temperature"), members.get("seed")
    return _is_number(seed) or (_is_number(temperature) and temperature == 0)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Go takes the last of two equal keys, whatever their case, merges objects, and passes over null.

    None of that is imitated here: a request that means one thing to us and another to Ollama would have its answer given to
    somebody who asked for something else.
    """
    members = dict(pairs)
    if len(members) != len(pairs) or len({gojson.fold(name) for name in members}) != len(members):
        raise ValueError("a key stands twice")
    return members


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number that is too large")
    return number


def _no_number(_text: str) -> float:
    raise ValueError("NaN and Infinity are no JSON")


def kept_answer_request(name: str) -> bytes:
    """To the control process, for the answer under this digest; it tells our requests from those it is passed by the field."""
    return b"GET /cached/%b HTTP/1.1\r\nHost: olladist\r\nX-Olladist-Internal: cache\r\n\r\n" % name.encode("ascii")


class Collecting:
    """A sink that writes what comes, and keeps it up to a bound."""

    __slots__ = ("_pieces", "_room", "_write")

    def __init__(self, write: Callable[[bytes], None], first: bytes) -> None:
        """`first` was written already, with the head."""
        self._write = write
        self._pieces: list[bytes] = []
        # Chunks of a stream carry about 5 bytes of framing for 100 of text.
        self._room = ANSWER_BYTES_MAX + ANSWER_BYTES_MAX // 4
        self._add(first)

    def __call__(self, data: bytes) -> None:
        self._write(data)
        if self._room >= 0:
            self._add(data)

    def _add(self, data: bytes) -> None:
        self._room -= len(data)
        if self._room >= 0:
            self._pieces.append(data)
        else:
            self._pieces.clear()

    def body(self, *, chunked: bool) -> bytes | None:
        """What has come, without its chunks; None where that is too much or cannot be told."""
        raw = b"".join(self._pieces)
        if chunked:
            decoder = Chunked()
            try:
                raw = b"".join(decoder.feed(raw))
            except Refused:
                return None
            if not decoder.done:
                return None
        return raw if self._room >= 0 and len(raw) <= ANSWER_BYTES_MAX else None


def is_whole(route: Route, body: bytes, *, stream: bool) -> bool:
    """Whether an answer says itself that it was finished.

    Ollama ends a stream of too many repetitions without a word, with the status 200, and so does one that failed half-way.
    """
    end = body.rstrip()
    if route.dialect is Dialect.OLLAMA and route.streams is not None:
        return b'"done":true' in end.rpartition(b"\n")[2]
    if not stream:
        return end.endswith(b"}")
    if route.name == "v1/responses":
        return b"event: response.completed\n" in body
    if route.dialect is Dialect.ANTHROPIC:
        return b"event: message_stop\n" in body
    return end.endswith(b"data: [DONE]")
