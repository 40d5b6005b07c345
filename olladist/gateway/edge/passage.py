"""One request for the control process: everything but inference. Streamed both ways, of any size, with nothing kept.

The control process is one more upstream on a unix socket; each request has its own connection to it.
"""

import asyncio

import structlog

from olladist.gateway.edge import answers
from olladist.gateway.edge.connecting import connect
from olladist.gateway.edge.door import dialect_of
from olladist.gateway.edge.downstream import Downstream
from olladist.gateway.edge.head import CHUNKED, RequestHead, for_control
from olladist.gateway.edge.upstream import PlainUpstream, Upstream

# A control process that is restarted listens again within about a second.
_RECONNECT_SECONDS, _RECONNECT_PAUSE = 5.0, 0.05

log = structlog.get_logger()


class Passage:
    __slots__ = (
        "_asked",
        "_chunked",
        "_client",
        "_close",
        "_connecting",
        "_deadline",
        "_head",
        "_may_ask_again",
        "_upstream",
        "_waiting",
        "answering",
        "body_max",
        "dialect",
    )

    def __init__(self, client: Downstream, head: RequestHead) -> None:
        self._client = client
        self._head = head
        self._chunked = head.length == CHUNKED
        self.dialect = dialect_of(head.path)
        self.body_max: int | None = None
        self.answering = False
        self._close = False
        name = client.key.name if client.key is not None else ""
        self._asked = for_control(head, client.peer, name, admin=client.admin)
        self._waiting: list[bytes] = [self._asked]  # until there is a connection
        # A listing changes nothing, and a control process that was killed over it is there again in a moment.
        self._may_ask_again = head.method in {b"GET", b"HEAD"} and not head.length
        self._upstream: Upstream | None = None
        self._deadline = client.worker.loop.time() + _RECONNECT_SECONDS
        self._connecting: asyncio.Task[None] | None = None
        self._connect()

    # Client.

    def body(self, piece: bytes) -> None:
        data = answers.chunk(piece) if self._chunked else piece
        if self._upstream is None:
            self._waiting.append(data)
            self._client.pause_reading()
        elif self._upstream.transport is not None:
            self._upstream.transport.write(data)

    def body_ended(self) -> None:
        if self._chunked:
            self._chunked = False
            if self._upstream is None:
                self._waiting.append(answers.LAST_CHUNK)
            elif self._upstream.transport is not None:
                self._upstream.transport.write(answers.LAST_CHUNK)

    def client_left(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._upstream is not None:
            self._upstream.abort()

    def client_full(self) -> None:
        if self._upstream is not None:
            self._upstream.pause()

    def client_drained(self) -> None:
        if self._upstream is not None:
            self._upstream.resume()

    def give_up(self, text: str) -> None:
        self.client_left()
        self._fail(text)

    # Control process.

    def _connect(self) -> None:
        worker = self._client.worker
        upstream = Upstream() if self._head.minor else PlainUpstream()
        address = f"unix:{worker.settings.api_socket}"
        self._connecting = worker.start(connect(address, upstream, self, worker.settings.connect_seconds))

    def connected(self, upstream: Upstream) -> None:
        self._connecting = None
        if upstream.transport is None:
            self.connect_failed("it closed the connection at once")
            return
        self._upstream = upstream
        waiting, self._waiting = self._waiting, []
        upstream.send(self, *waiting)
        if self._client.write_paused:
            upstream.pause()
        self._client.resume_reading()

    def connect_failed(self, reason: str) -> None:
        loop = self._client.worker.loop
        if loop.time() < self._deadline:
            self._connecting = self._client.worker.start(self._connect_later())
            return
        self._connecting = None
        log.warning("control process cannot be reached", reason=reason)
        self._fail("the gateway's control process is starting, please try again")

    async def _connect_later(self) -> None:
        await asyncio.sleep(_RECONNECT_PAUSE)
        self._connect()

    def head_arrived(self, upstream: Upstream, rest: bytes) -> None:
        self.answering = True
        bodiless = self._head.method == b"HEAD"
        self._close = self._client.pass_on(upstream, b"" if bodiless else rest, self._client.mode_fields)
        upstream.sink = self._client.transport.write
        if bodiless:
            # The parser waits for a body of the length that the head tells of.
            upstream.abort()
            self._finish()

    def completed(self, upstream: Upstream) -> None:
        upstream.abort()
        self._finish()

    def lost(self, upstream: Upstream, reason: str) -> None:
        if not self.answering and self._may_ask_again:
            self._may_ask_again = False
            self._upstream = None
            self._waiting = [self._asked]
            self._connecting = self._client.worker.start(self._connect_later())
            return
        log.warning("control process did not answer", path=self._head.path, reason=reason)
        self._fail(f"the gateway's control process did not finish: {reason}")

    def upstream_full(self) -> None:
        self._client.pause_reading()

    def upstream_drained(self) -> None:
        self._client.resume_reading()

    def _finish(self) -> None:
        self._client.finished(close=self._close)

    def _fail(self, text: str) -> None:
        client = self._client
        if self.answering:
            client.cut()
            return
        close = client.must_close
        bodiless = self._head.method == b"HEAD"
        client.transport.write(
            answers.error(self.dialect, 503, text, client.fields, close=close, retry_after=1, bodiless=bodiless)
        )
        client.finished(close=close)
