"""Heads of requests for inference that have come before: what reading and judging them has come to.

A client sends the same head again and again, but for the length of the body; and reading, judging and writing a head anew costs as
much as all the rest of a small request. What is kept was read and judged in full the first time, byte for byte the same.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from olladist.gateway.edge.asked import fields_of
from olladist.gateway.edge.door import Door, Entry, Turned
from olladist.gateway.edge.head import RequestHead, backend_head, read_request
from olladist.gateway.edge.routing import leased_route
from olladist.gateway.lease import Access
from olladist.ollama.routes import Route

# Heads of clients have 150 to 700 bytes; those of one that makes up a new one each time push out the others, and cost 1 MB at most.
HEADS_MAX: Final = 512
HEAD_BYTES_MAX: Final = 2048

_LENGTHS: Final = (b"\r\nContent-Length: ", b"\r\ncontent-length: ")
DIGITS_MAX: Final = 18


class Arrival(msgspec.Struct, frozen=True):
    """A head, the door's verdict, and for a request that needs a lease its route, what it says to the gateway and the head that goes on.

    That one is `before`, the length of the body, `after`; it came as `start`, the length, `end` (empty where it has none in one of the usual
    forms). `head.length` is that of the first such request.
    """

    head: RequestHead
    verdict: Entry | Turned
    route: Route | None = None
    said: Mapping[bytes, bytes] = {}
    before: bytes = b""
    after: bytes = b""
    start: bytes = b""
    end: bytes = b""
    access: Access | None = None  # by which it was judged


class Heads:
    """Reads and judges; remembers what is for inference and was let in, for as long as the same keys are valid."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._access: Access | None = None
        self._known: dict[tuple[bytes, bytes], Arrival] = {}

    def read(self, raw: bytes, access: Access | None, last: Arrival | None = None) -> tuple[Arrival, int]:
        """A whole head, and the length of its body as RequestHead has it; `last` came before it on its connection. Raises Refused."""
        if last is not None and last.start and last.access is access:
            length = length_between(raw, last.start, last.end)
            if length >= 0:
                return last, length
        before, after, length = split_length(raw)
        if access is not self._access:
            self._access = access
            self._known.clear()
        arrival = self._known.get((before, after)) if before else None
        if arrival is not None:
            return arrival, length
        head = read_request(raw)
        if len(raw) > HEAD_BYTES_MAX:
            before = after = b""
        arrival = self._judge(head, access, before, after)
        if before and arrival.route is not None:
            if len(self._known) >= HEADS_MAX:
                self._known.clear()
            self._known[before, after] = arrival
        return arrival, head.length

    def _judge(self, head: RequestHead, access: Access | None, start: bytes, end: bytes) -> Arrival:
        verdict = self._door.judge(head, access)
        if isinstance(verdict, Turned):
            return Arrival(head, verdict)
        head = verdict.head
        route = leased_route(head.method, head.path)
        if route is None:
            return Arrival(head, verdict)
        before, after = backend_head(head)
        return Arrival(head, verdict, route, fields_of(head), before, after, start, end, access)


def split_length(raw: bytes) -> tuple[bytes, bytes, int]:
    """What of a head stands before and after the digits of its Content-Length, and these as a number.

    Empty where it has none in one of the usual forms.
    """
    for name in _LENGTHS:
        at = raw.find(name)
        if at >= 0:
            start = at + len(name)
            end = raw.find(b"\r\n", start)
            digits = raw[start:end]
            if end >= 0 and digits.isdigit() and len(digits) <= DIGITS_MAX:
                return raw[:start], raw[end:], int(digits)
    return b"", b"", 0


def length_between(raw: bytes, before: bytes, after: bytes) -> int:
    """What split_length would find in a head, where what it stands between is this; -1 where it is something else."""
    if not (raw.startswith(before) and raw.endswith(after)):
        return -1
    digits = raw[len(before) : len(raw) - len(after)]
    return int(digits) if digits.isdigit() and len(digits) <= DIGITS_MAX else -1
