"""Heads of answers that have come before: a backend sends the same one for a second (Date), but for the length of the body.

An answer that comes whole in one piece after such a head needs no parser: where it ends is told by its length alone.
"""

from typing import Final

import msgspec

from olladist.gateway.edge.head import Field, for_client
from olladist.gateway.edge.heads import DIGITS_MAX, split_length

# One a second of each kind that a backend sends; 1 KB each.
REPLIES_MAX: Final = 32
HEAD_BYTES_MAX: Final = 1024
_ADDED_MAX: Final = 16


class Reply(msgspec.Struct):
    """The head of an answer of a known length that leaves its connection open, and the same as clients have got it."""

    status: int
    reason: bytes
    fields: list[Field]
    written: dict[tuple[bytes, bool], tuple[bytes, bytes]] = {}

    def for_client(self, length: int, added: bytes, *, close: bool) -> bytes:
        """As head.for_client, for a body of `length`."""
        known = self.written.get((added, close))
        if known is None:
            head = for_client(self.status, self.reason, self.fields, added, chunked=False, close=close)
            before, after, _ = split_length(head)
            known = before, after
            if len(self.written) >= _ADDED_MAX:
                self.written.clear()
            self.written[added, close] = known
        return b"%b%d%b" % (known[0], length, known[1])


class Replies:
    """What one backend has sent. A parser has read each of these heads once, byte for byte."""

    __slots__ = ("_after", "_before", "_known", "_last")

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes], Reply] = {}
        # The last one that was found.
        self._before = self._after = b""
        self._last: Reply | None = None

    def find(self, data: bytes) -> tuple[Reply, int] | None:
        """The head of a whole answer, and where its body begins; None for one that must be parsed."""
        if self._last is not None and data.startswith(self._before):
            start = len(self._before)
            at = data.find(b"\r", start, start + DIGITS_MAX + 1)
            if at >= 0 and data.startswith(self._after, at):
                end = at + len(self._after)
                digits = data[start:at]
                return (self._last, end) if digits.isdigit() and int(digits) == len(data) - end else None
        end = data.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX) + 4
        before, after, length = split_length(data[:end])
        reply = self._known.get((before, after)) if length == len(data) - end and before else None
        if reply is None:
            return None
        self._before, self._after, self._last = before, after, reply
        return reply, end

    def remember(self, raw: bytes, status: int, reason: bytes, fields: list[Field]) -> None:
        """`raw` is a head that a parser has read, of an answer with a length on a connection that stays open."""
        before, after, _ = split_length(raw)
        if not before or len(raw) > HEAD_BYTES_MAX or sum(name == b"content-length" for name, _, _ in fields) != 1:
            return
        if len(self._known) >= REPLIES_MAX:
            self._known.clear()
        self._known[before, after] = Reply(status, reason, fields)
