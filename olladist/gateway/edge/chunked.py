"""Chunked request bodies (RFC 9112 §7.1), read strictly: the end of one request must be beyond doubt before the next begins.

Responses are not read here: httptools does that in C, and their bytes are passed on as they come.
"""

import re
from typing import Final

from olladist.gateway.edge.head import Refused

# A size of 15 hex digits fits into 64 bits. Extensions are allowed and ignored; llhttp too wants ";" right after the size.
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[^\x00-\x08\x0a-\x1f\x7f]*+)?")
_TRAILER: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\x00-\x08\x0a-\x1f\x7f]*+")
# Nobody sends extensions; a signature in one (as S3 clients do) has 90 bytes.
_LINE_MAX: Final = 1024
_TRAILERS_MAX: Final = 32


class Chunked:
    """Takes the bytes after a head until `done`; `rest` then holds what belongs to the next request."""

    __slots__ = ("_left", "_rest", "_state", "_trailers", "done")

    def __init__(self) -> None:
        self._state = self._size
        self._rest = b""
        self._left = 0
        self._trailers = 0
        self.done = False

    def feed(self, data: bytes) -> list[bytes]:
        """The pieces of the body in `data`, in order. Raises Refused."""
        data = self._rest + data if self._rest else data
        pieces: list[bytes] = []
        at = 0
        while not self.done:
            to = self._state(data, at, pieces)
            if to < 0:
                break
            at = to
        self._rest = data[at:]
        return pieces

    @property
    def rest(self) -> bytes:
        return self._rest

    def _size(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        end = _line_end(data, at)
        if end >= 0:
            size = _SIZE.fullmatch(data, at, end)
            if size is None:
                raise Refused(400, "malformed chunk size")
            self._left = int(size[1], 16)
            self._state = self._data if self._left else self._trailer
            return end + 2
        return -1

    def _data(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        piece = data[at : at + self._left]
        if not piece:
            return -1
        pieces.append(piece)
        self._left -= len(piece)
        if not self._left:
            self._state = self._data_end
        return at + len(piece)

    def _data_end(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        if not b"\r\n".startswith(data[at : at + 2]):
            raise Refused(400, "a chunk longer than its size")
        if len(data) - at < 2:
            return -1
        self._state = self._size
        return at + 2

    def _trailer(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        """RFC 9110 §6.5.1: trailers may be dropped; they are."""
        end = _line_end(data, at)
        if end < 0:
            return -1
        if end == at:
            self.done = True
        elif self._trailers >= _TRAILERS_MAX or _TRAILER.fullmatch(data, at, end) is None:
            raise Refused(400, "malformed trailer")
        self._trailers += 1
        return end + 2


def _line_end(data: bytes, at: int) -> int:
    """Where the CRLF of the line is, -1 where it has not come yet."""
    end = data.find(b"\n", at, at + _LINE_MAX)
    if end > at and data[end - 1] == 13:
        return end - 1
    if end >= 0 or len(data) - at >= _LINE_MAX:
        raise Refused(400, "malformed line in a chunked body")
    return -1
