"""One client connection: reads requests one after the other, hands each to an exchange, and answers in their order.

Reading goes on while an answer is on its way, because only a read shows that the client has left; what it sends ahead is
kept, and past a bound reading pauses until its turn has come.
"""

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Final, Protocol, cast

from olladist.gateway.edge import answers
from olladist.gateway.edge.backends import mode_fields
from olladist.gateway.edge.bounds import Pace, Stall
from olladist.gateway.edge.chunked import Chunked
from olladist.gateway.edge.door import Turned
from olladist.gateway.edge.head import (
    CHUNKED,
    UNTIL_CLOSE,
    Refused,
    RequestHead,
    for_client,
    is_hopeless,
)
from olladist.gateway.edge.heads import Arrival
from olladist.gateway.edge.upstream import Answer
from olladist.gateway.edge.worker import Worker
from olladist.gateway.lease import Key
from olladist.ollama.routes import Dialect
from olladist.units import size

# A client may be this far behind before the backend is told to wait: some hundred lines of a stream.
WRITE_BYTES_MAX: Final = 64 * 2**10
# Requests sent ahead: nobody who pipelines inference has more than a few of 1 KiB.
PIPELINED_BYTES_MAX: Final = 64 * 2**10
# How long a client that is being turned away may go on sending, so that it can read why (RFC 9112 §9.6).
LINGER_SECONDS: Final = 2.0


class Exchange(Protocol):
    """One request and its answer, as the client's connection drives it."""

    dialect: Dialect
    answering: bool  # the head of the answer has been written
    body_max: int | None  # bytes; None takes any number, for it keeps none of them

    def body(self, piece: bytes) -> None: ...

    def body_ended(self) -> None: ...

    def client_left(self) -> None: ...

    def client_full(self) -> None: ...

    def client_drained(self) -> None: ...

    def give_up(self, text: str) -> None:
        """The gateway ends: say so to the client if that is possible, and call `finished`."""


class State(Enum):
    HEAD = "head"  # waiting for a request, or in the middle of its head
    BODY = "body"
    BUSY = "busy"  # the request is here, the answer is not
    LINGER = "linger"  # answered for good; what comes is thrown away
    CLOSED = "closed"


class Downstream(asyncio.Protocol):
    __slots__ = (
        "_advancing",
        "_arrival",
        "_begin",
        "_chunked",
        "_held",
        "_left",
        "_looked_at",
        "_on_close",
        "_on_open",
        "_pace",
        "_read_paused",
        "_rest",
        "_room",
        "_since",
        "_stall",
        "admin",
        "cors",
        "exchange",
        "head",
        "key",
        "peer",
        "state",
        "transport",
        "worker",
        "write_paused",
    )

    transport: asyncio.Transport

    def __init__(
        self,
        worker: Worker,
        begin: "Callable[[Downstream, Arrival], Exchange]",
        on_open: "Callable[[Downstream], None]",
        on_close: "Callable[[Downstream], None]",
    ) -> None:
        # Connection.
        self.worker = worker
        self._begin = begin
        self._on_open = on_open
        self._on_close = on_close
        self.peer = ""
        self.write_paused = False
        self._read_paused = False
        self._stall = Stall()
        # Request. `_since` is when the state began, or when something last came in.
        self.state = State.HEAD
        self.exchange: Exchange | None = None
        self.head: RequestHead | None = None
        self.key: Key | None = None  # who asks; None where the gateway has no keys
        self.admin = False  # it may hold the admin token
        self.cors = b""  # header lines that a browser needs
        self._arrival: Arrival | None = None  # the last one
        self._rest = b""
        self._looked_at = 0
        self._left = 0
        self._room: int | None = None
        self._chunked: Chunked | None = None
        self._held = 0  # bytes of its body that are counted in worker.bodies
        self._since = worker.loop.time()
        self._pace = Pace(self._since)
        self._advancing = False

    # What exchanges call.

    @property
    def must_close(self) -> bool:
        """True where no further request can be taken once this one is answered."""
        return self.state is not State.BUSY or self.head is None or not self.head.keep_alive or self.worker.draining

    @property
    def mode_fields(self) -> bytes:
        """The header lines of every answer, but for what depends on who gets it."""
        return mode_fields(self.worker.backends.mode)

    @property
    def fields(self) -> bytes:
        """The header lines of an answer that is written without `pass_on`."""
        return self.mode_fields + self.cors

    def pass_on(self, answer: Answer, rest: bytes, added: bytes) -> bool:
        """Writes the head of `answer` with the header lines `added`, and `rest` of the body.

        Returns whether the connection must end with this answer, which the head has said then.
        """
        close = self.must_close or answer.framing == UNTIL_CLOSE
        added += self.cors
        if answer.reply is not None:
            head = answer.reply.for_client(answer.framing, added, close=close)
        else:
            head = for_client(answer.status, answer.reason, answer.fields, added, chunked=answer.chunked, close=close)
        self.transport.write(head + rest)
        return close

    def finished(self, *, close: bool) -> None:
        """The answer has been written; `close` was said in its head, or is the only way to end it."""
        self._forget()
        if self.state is State.CLOSED:
            return
        if self.state is State.BODY:
            self.linger()
        elif close or self.worker.draining:
            if self._rest and self.transport.can_write_eof():
                self.linger()  # it has sent more than will be answered: a reset would take the answer from it
                return
            self.state = State.CLOSED
            self.transport.close()
        else:
            self.state = State.HEAD
            self._since = self.worker.loop.time()
            if self._rest and not self._advancing:
                self._advance()
            self.resume_reading()

    def cut(self) -> None:
        """The answer cannot be ended properly: the client must see that it is not whole."""
        self._forget()
        if self.state is not State.CLOSED:
            self.state = State.CLOSED
            # What was written still goes out, then the connection ends before the framing says so.
            self.transport.close()

    def _forget(self) -> None:
        """The request is over, whichever way."""
        self.exchange = self.head = self.key = None
        self.admin = False
        self.cors = b""
        self.worker.bodies.release(self._held)
        self._held = 0

    def pause_reading(self) -> None:
        if not self._read_paused and self.state is not State.CLOSED:
            self._read_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Reads on, unless more lies here already than may be sent ahead."""
        if self._read_paused and self.state is not State.CLOSED and len(self._rest) <= PIPELINED_BYTES_MAX:
            self._read_paused = False
            self._since = self.worker.loop.time()
            self._pace = Pace(self._since)
            self.transport.resume_reading()

    def linger(self) -> None:
        """Ends our side and waits a little for the other, so that the answer is not lost to a reset."""
        self.state = State.LINGER
        self._since = self.worker.loop.time()
        self._rest = b""
        self._chunked = None
        self.resume_reading()
        if not self.transport.is_closing() and self.transport.can_write_eof():  # TLS cannot
            self.transport.write_eof()

    def refuse(self, status: int, text: str, *, retry_after: int = 0) -> None:
        """Answers what cannot be a request, or is too much of one, and closes."""
        self.worker.counts["too_many" if status in {429, 503} else "bad_request"] += 1
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.client_left()
            if exchange.answering:
                self.cut()
                return
        dialect = exchange.dialect if exchange is not None else Dialect.OLLAMA
        self.transport.write(answers.error(dialect, status, text, self.fields, close=True, retry_after=retry_after))
        self._forget()
        self.linger()

    # What the process calls.

    def sweep(self, now: float) -> None:
        """Ends what has been silent too long. Nothing ends while a backend works: loading a model may take minutes."""
        limits, silent = self.worker.settings.limits, now - self._since
        if self._stall.seconds(self.transport.get_write_buffer_size(), now) > limits.read_seconds:
            self.worker.counts["cut_slow"] += 1
            self._leave()
            self.transport.abort()
        elif self.state is State.LINGER:
            if silent > LINGER_SECONDS:
                self.transport.abort()
        elif self.state is State.HEAD:
            if self._rest:
                if silent > limits.head_seconds:
                    self.refuse(408, f"the request head did not end within {limits.head_seconds:g} s")
            elif silent > limits.idle_seconds:
                self.transport.close()
        elif self.state is State.BODY and not self._read_paused:
            if silent > limits.body_seconds:
                self.refuse(408, f"nothing of the request body came for {limits.body_seconds:g} s")
            elif self._pace.is_slow(limits.body_rate, limits.body_seconds, now):
                self.refuse(408, f"less than {size(limits.body_rate)} a second of the request body came")

    def drain(self) -> None:
        """Closes now if nothing is going on, else after the answer."""
        if self.state is State.HEAD and not self._rest:
            self.transport.close()

    def end(self, text: str) -> None:
        """Ends what is going on with an error, as far as it can be told."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.give_up(text)

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=WRITE_BYTES_MAX)
        self._since = self.worker.loop.time()
        self._on_open(self)
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if peer else "unknown"
        self.worker.counts["connections"] += 1
        one_too_many = self.worker.connections.enter(self.peer)
        if self.worker.leaving:  # it was accepted before, and has only now shaken hands
            self.transport.close()
        elif one_too_many:
            if self.worker.connections.can_tell:
                self.refuse(*one_too_many, retry_after=1)
            else:
                self.worker.counts["too_many"] += 1
                self.state = State.CLOSED
                self.transport.abort()

    def data_received(self, data: bytes) -> None:
        state = self.state
        if state is State.HEAD:
            self._rest = self._rest + data if self._rest else data
            self._advance()
        elif state is State.BODY:
            self._since = self.worker.loop.time()
            self._pace.came(len(data))
            self._body(data)
        elif state is State.BUSY:
            self._rest += data
            self._hold_back()

    def eof_received(self) -> None:
        """A client that ends its side has left, as Go's server sees it, which is Ollama's.

        To wait for it to read on would keep a slot busy for nobody: half-closed and gone look the same.
        """
        self._leave()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self.state = State.CLOSED
        self.worker.connections.leave(self.peer)
        self._on_close(self)

    def _leave(self) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.client_left()
        self._forget()

    def pause_writing(self) -> None:
        self.write_paused = True
        if self.exchange is not None:
            self.exchange.client_full()

    def resume_writing(self) -> None:
        self.write_paused = False
        if self.exchange is not None:
            self.exchange.client_drained()
        elif self._rest and not self._advancing:
            self._advance()

    def _hold_back(self) -> None:
        if len(self._rest) > PIPELINED_BYTES_MAX:
            self.pause_reading()

    # Requests out of bytes.

    def _advance(self) -> None:
        """Begins requests for as long as whole heads lie here and nothing is in the way."""
        self._advancing = True
        try:
            while self.state is State.HEAD and self._rest and not self.write_paused:
                raw = self._next_head()
                if raw is None:
                    return
                self._start(raw)
        except Refused as refusal:
            self.refuse(refusal.status, refusal.text)
        finally:
            self._advancing = False

    def _next_head(self) -> bytes | None:
        rest = self._rest
        while rest.startswith(b"\r\n"):  # RFC 9112 §2.2: some clients end a body with one too many
            rest = self._rest = rest[2:]
        limit = self.worker.settings.limits.head
        end = rest.find(b"\r\n\r\n", max(0, self._looked_at - 3), limit)
        if end >= 0:
            self._rest = rest[end + 4 :]
            return rest[: end + 4]
        if len(rest) >= limit:
            raise Refused(431, f"the request head has over {limit} bytes")
        if is_hopeless(rest, self._looked_at):
            raise Refused(400, "malformed request head")
        if not self._looked_at:
            self._since = self.worker.loop.time()
        self._looked_at = len(rest)
        return None

    def _start(self, raw: bytes) -> None:
        self._looked_at = 0
        worker = self.worker
        arrival, length = worker.heads.read(raw, worker.leases.access, self._arrival)
        self._arrival = arrival if arrival.start else None  # no other is looked at again, and it may be large
        head, verdict = arrival.head, arrival.verdict
        self.head = head
        if isinstance(verdict, Turned):
            self._turn_away(verdict, head)
            return
        self.key, self.admin, self.cors = verdict.key, verdict.admin, verdict.cors
        if 0 <= length <= len(self._rest):
            self._start_whole(arrival, length)
            return
        data, self._rest = self._rest, b""
        self.state = State.BODY
        self._since = worker.loop.time()
        self._pace = Pace(self._since)
        self.resume_reading()
        self._chunked = Chunked() if length == CHUNKED else None
        self._left = length
        exchange = self.exchange = self._begin(self, arrival)
        self._room = exchange.body_max
        if self._room is not None and length > self._room:
            self._too_large()
        elif head.expects and not data and self.state is State.BODY:
            self.transport.write(answers.CONTINUE)
        elif data:
            self._body(data)

    def _start_whole(self, arrival: Arrival, length: int) -> None:
        """The body lies here already, which is how most requests come."""
        rest = self._rest
        exchange = self.exchange = self._begin(self, arrival)
        if length:
            self.state = State.BODY
            self._rest = rest[length:]
            self.resume_reading()
            self._room = exchange.body_max
            if self._room is not None and length > self._room:
                self._too_large()
                return
            piece = rest if length == len(rest) else rest[:length]
            if not self._has_room(piece):
                return
            exchange.body(piece)
        if self.exchange is exchange:
            self._end_body()

    def _turn_away(self, verdict: Turned, head: RequestHead) -> None:
        """Answers without an exchange; the connection goes on where nothing of a body has to be thrown away first."""
        if verdict.counted:
            self.worker.counts[verdict.counted] += 1
        self.state = State.BODY if head.length else State.BUSY
        close = self.must_close
        self.transport.write(verdict.render(self.mode_fields, close=close, bodiless=head.method == b"HEAD"))
        self.finished(close=close)

    def _body(self, data: bytes) -> None:
        if self._chunked is not None:
            self._body_in_chunks(self._chunked, data)
            return
        piece, self._rest = (data, b"") if len(data) <= self._left else (data[: self._left], data[self._left :])
        self._left -= len(piece)
        if self._has_room(piece) and self.exchange is not None:
            self.exchange.body(piece)
        if not self._left and self.state is State.BODY:
            self._end_body()

    def _body_in_chunks(self, chunked: Chunked, data: bytes) -> None:
        try:
            pieces = chunked.feed(data)
        except Refused as refusal:
            self.refuse(refusal.status, refusal.text)
            return
        for piece in pieces:
            if self.exchange is None or self.state is not State.BODY:
                return
            if self._room is not None:
                self._room -= len(piece)
                if self._room < 0:
                    self._too_large()
                    return
            if not self._has_room(piece):
                return
            self.exchange.body(piece)
        if chunked.done and self.state is State.BODY:
            self._chunked = None
            self._rest = chunked.rest
            self._end_body()

    def _has_room(self, piece: bytes) -> bool:
        """Counts what an exchange keeps until the request is over; False where the request has been refused for it."""
        if self._room is None:
            return True
        if self.worker.bodies.take(len(piece)):
            self._held += len(piece)
            return True
        self.refuse(503, "the gateway holds as many request bodies as it takes, please try again", retry_after=1)
        return False

    def _too_large(self) -> None:
        limit = self.worker.settings.limits.body
        self.refuse(413, f"the request body is too large, at most {size(limit)} are taken")

    def _end_body(self) -> None:
        """The request is whole, and what lies here besides belongs to the next ones."""
        self.state = State.BUSY
        self._hold_back()
        if self.exchange is not None:
            self.exchange.body_ended()
