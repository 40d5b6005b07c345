"""One connection to a backend or to the control process: a request goes out, the bytes of a response come back.

httptools reads each response only to learn its head and where it ends; it has no `on_body`, so bodies are not copied.
The bytes are written to the client as they came. Everything here is a callback: no task, no await, no buffer of ours.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from olladist.gateway.edge.head import CHUNKED, UNTIL_CLOSE, Field, response_framing
from olladist.gateway.edge.replies import Replies, Reply

# Heads of Ollama have 150 bytes. Go's client stops at 1 MiB, nginx at 8 KiB.
HEAD_BYTES_MAX = 64 * 2**10
# A backend at OLLAMA_NUM_PARALLEL 64 would keep that many; more than twice as many at rest is no use to anyone.
IDLE_MAX = 128
IDLE_SECONDS = 30.0
# The end of a stream comes in up to four reads: the last words, their usage, [DONE], the last chunk.
_LAST_READS = 4


class Requester(Protocol):
    """What an exchange is to its upstream connection. All calls come from the event loop, none may block."""

    def head_arrived(self, upstream: "Upstream", rest: bytes) -> None:
        """The head is in `upstream`; `rest` is what came of the body. Sets `upstream.sink` for what follows."""

    def completed(self, upstream: "Upstream") -> None:
        """The response is whole. To call `upstream.release()` or `upstream.abort()` is the exchange's part."""

    def lost(self, upstream: "Upstream", reason: str) -> None:
        """The connection has ended, or broke the protocol, before the response was whole."""

    def upstream_full(self) -> None: ...

    def upstream_drained(self) -> None: ...


class Answer(Protocol):
    """The head of a response, on its way or kept."""

    status: int
    reason: bytes
    fields: list[Field]
    framing: int
    reply: Reply | None

    @property
    def chunked(self) -> bool: ...


class Pool:
    """The idle connections to one address, the one used last on top."""

    __slots__ = ("idle", "is_open", "replies")

    def __init__(self) -> None:
        self.replies = Replies()
        self.idle: list[Upstream] = []
        self.is_open = True

    def take(self) -> "Upstream | None":
        return self.idle.pop() if self.idle else None

    def close_older(self, before: float) -> None:
        """Closes what has been idle since a time before that."""
        stale = [upstream for upstream in self.idle if upstream.idle_since < before]
        for upstream in stale:
            self.idle.remove(upstream)
            upstream.abort()

    def close(self) -> None:
        """Closes all, and what comes back later."""
        self.is_open = False
        for upstream in self.idle:
            upstream.abort()
        self.idle.clear()


class Upstream(asyncio.Protocol):
    __slots__ = (
        "_begun",
        "_extra",
        "_interim",
        "_paused",
        "_raw",
        "complete",
        "exchange",
        "fields",
        "framing",
        "idle_since",
        "keep",
        "last",
        "parser",
        "pool",
        "reason",
        "received",
        "reply",
        "sink",
        "status",
        "transport",
        "whole",
    )

    def __init__(self, pool: Pool | None = None) -> None:
        # Connection. Without a pool it serves one request.
        self.pool = pool
        self.transport: asyncio.Transport | None = None
        self.parser = httptools.HttpResponseParser(self)
        self.idle_since = 0.0
        self._paused = False
        # Response. `last` is what came last of the body: whether it stands between two lines, and what it says of its cost.
        self.exchange: Requester | None = None
        self.last: deque[bytes] = deque(maxlen=_LAST_READS)
        self._clear()

    def _clear(self) -> None:
        self.sink: Callable[[bytes], None] | None = None
        self.reply: Reply | None = None
        self.status = 0
        self.reason = b""
        self.fields: list[Field] = []
        self.framing = UNTIL_CLOSE
        self.whole = False  # the head
        self.complete = False  # the response
        self.keep = False
        self.received = 0
        self.last.clear()
        self._raw = b""
        self._begun = False
        self._interim = 0
        self._extra = False

    # What the exchange calls.

    def send(self, exchange: Requester, *parts: bytes) -> None:
        """Begins an exchange with the bytes of its request."""
        self._clear()
        self.exchange = exchange
        assert self.transport is not None  # noqa: S101  only connected ones are lent
        self.transport.writelines(parts)

    @property
    def chunked(self) -> bool:
        """True where the bytes that pass are chunks."""
        return self.framing == CHUNKED

    def field(self, lower: bytes) -> bytes:
        """The value of the first header field of this name, empty where there is none."""
        return next((value for name, _, value in self.fields if name == lower), b"")

    @property
    def silent(self) -> bool:
        """True while nothing at all has come back."""
        return not (self._raw or self.whole or self._interim)

    def pause(self) -> None:
        if not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        if self._paused and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()

    def release(self, now: float) -> None:
        """Back to the pool where both sides can use it again, otherwise closed."""
        self.exchange = self.sink = None
        self.last.clear()
        transport, pool = self.transport, self.pool
        if transport is None:
            return
        if self.keep and pool is not None and pool.is_open and len(pool.idle) < IDLE_MAX and not transport.is_closing():
            self.resume()
            self.idle_since = now
            pool.idle.append(self)
        else:
            transport.abort()

    def abort(self) -> None:
        """Closes at once, so that the backend stops working on the request."""
        self.exchange = self.sink = None
        if self.transport is not None:
            self.transport.abort()

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.exchange is None:
            # Nobody has asked: what it says would be taken for the answer to the next request.
            self.abort()
            return
        if not self._begun:
            self._begun = True
            if self.pool is not None and (found := self.pool.replies.find(data)):
                self._at_once(data, *found)
                return
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as problem:
            self._broken(f"it does not speak HTTP ({problem})")
            return
        if self._extra:
            self._broken("it sent more than one response")
        elif self.sink is not None:
            self._body(self.sink, data)
        else:
            self._head(data)

    def _at_once(self, data: bytes, reply: Reply, end: int) -> None:
        """All of an answer, after a head that is known."""
        self.reply = reply
        self.status, self.reason, self.fields = reply.status, reply.reason, reply.fields
        self.framing = len(data) - end
        self.keep = self.whole = self.complete = True
        self._body_begins(data[end:])

    def _body(self, sink: Callable[[bytes], None], data: bytes) -> None:
        self.last.append(data)
        self.received += len(data)
        sink(data)
        if self.complete and self.exchange is not None:
            self.exchange.completed(self)

    def _head(self, data: bytes) -> None:
        raw = self._raw + data if self._raw else data
        if not self.whole:
            self._raw = raw
            if len(raw) > HEAD_BYTES_MAX:
                self._broken(f"the head of its response has over {HEAD_BYTES_MAX} bytes")
            return
        try:
            self.framing = response_framing(self.status, self.fields)
        except ValueError as problem:
            self._broken(f"it sent {problem}")
            return
        end = 0
        for _ in range(self._interim + 1):
            # The parser skips empty lines before a head; we could not tell them from its end.
            if not raw.startswith(b"HTTP/", end):
                self._broken("it sent something before its response")
                return
            end = raw.index(b"\r\n\r\n", end) + 4
        self._raw = b""
        if self.keep and self.framing >= 0 and self.status == 200 and not self._interim and self.pool is not None:
            self.pool.replies.remember(raw[:end], self.status, self.reason, self.fields)
        self._body_begins(raw[end:])

    def _body_begins(self, rest: bytes) -> None:
        exchange = self.exchange
        assert exchange is not None  # noqa: S101  data_received has looked
        self.received = len(rest)
        self.last.append(rest)
        exchange.head_arrived(self, rest)
        # The exchange may have ended this in the call: client gone, or a HEAD, which has no body.
        if self.complete and self.exchange is exchange:
            exchange.completed(self)

    def _broken(self, reason: str) -> None:
        exchange = self.exchange
        self.abort()
        if exchange is not None:
            exchange.lost(self, reason)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.keep = False
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            if self.pool is not None and self in self.pool.idle:
                self.pool.idle.remove(self)
        elif self.whole and self.framing == UNTIL_CLOSE and exc is None:
            self.complete = True
            exchange.completed(self)
        else:
            exchange.lost(self, f"it ended the connection ({exc})" if exc else "it ended the connection")

    def pause_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.upstream_full()

    def resume_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.upstream_drained()

    # httptools. `whole` is false while heads of 1xx responses pass: they are an agreement between this hop and us
    # (RFC 9110 §15.2; we never ask for 100-continue), and are dropped.

    def on_message_begin(self) -> None:
        if self.complete:
            self._extra = True

    def on_status(self, reason: bytes) -> None:
        self.reason += reason  # in parts, where the head comes in parts

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.whole:
            self.fields.append((name.lower(), name, value))

    def on_headers_complete(self) -> None:
        if self.complete:
            return
        status = self.parser.get_status_code()
        if status >= 200:
            self.status = status
            self.keep = self.parser.should_keep_alive()
            self.whole = True
            return
        if status == 101:
            raise httptools.HttpParserError("it switched protocols unasked")
        self._interim += 1
        self.reason = b""
        self.fields = []

    def on_message_complete(self) -> None:
        if self.whole:
            self.complete = True


class PlainUpstream(Upstream):
    """For clients that do not know chunks (HTTP/1.0): passes bodies on without their framing. Never kept."""

    __slots__ = ("_pieces",)

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []

    @property
    def chunked(self) -> bool:
        return False

    def on_body(self, piece: bytes) -> None:
        self._pieces.append(piece)

    def _body(self, sink: Callable[[bytes], None], data: bytes) -> None:
        super()._body(sink, self._plain())

    def _body_begins(self, rest: bytes) -> None:
        super()._body_begins(self._plain())

    def _plain(self) -> bytes:
        plain = b"".join(self._pieces)
        self._pieces.clear()
        return plain
