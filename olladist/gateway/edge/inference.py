"""One request for inference: body → lease → backend → answer, on another backend where the first fails before it answers.

A small state machine in callbacks rather than a task: a task costs as much as the rest of a small request, and every
`await` in it would be one more place where the client may have left. `phase` says which callbacks can come next.
"""

import asyncio
from enum import Enum

import structlog
from msgspec.structs import replace

from olladist.gateway.access import may_use
from olladist.gateway.edge import answers, retry
from olladist.gateway.edge.asked import NOTHING, read_asked
from olladist.gateway.edge.backends import Backend, Kind, Lent, grant_fields, kind_of
from olladist.gateway.edge.connecting import connect
from olladist.gateway.edge.downstream import Downstream, Exchange
from olladist.gateway.edge.head import CHUNKED
from olladist.gateway.edge.heads import Arrival
from olladist.gateway.edge.held import Held
from olladist.gateway.edge.kept import Collecting, is_whole, kept_answer_request
from olladist.gateway.edge.passage import Passage
from olladist.gateway.edge.upstream import PlainUpstream, Upstream
from olladist.gateway.edge.usage import usage_of
from olladist.gateway.lease import NO_USAGE, Grant, Keep, Usage
from olladist.ollama.request import BadBody
from olladist.ollama.routes import Dialect, Route

# Error answers of Ollama have 60 to 600 bytes. What is longer is passed on without being judged.
HELD_BYTES_MAX = 64 * 2**10
_JUDGED = frozenset({404, 500, 503})

_NO_GRANT = Grant(0, -1)
_OF_NO_KIND: Kind = ("", "", NOTHING, 0, "")

log = structlog.get_logger()


class Phase(Enum):
    BODY = "body"  # of the request
    ASKED = "asked"
    CONNECTING = "connecting"
    SENT = "sent"  # nothing of the answer has been passed on
    PASSING = "passing"
    OVER = "over"


class Inference:
    __slots__ = (
        "_again",
        "_arrival",
        "_backend",
        "_body",
        "_client",
        "_close",
        "_collecting",
        "_connecting",
        "_first_byte_at",
        "_from_cache",
        "_grant",
        "_held",
        "_judging",
        "_outcomes",
        "_pieces",
        "_problems",
        "_refusal",
        "_reused",
        "_sent_at",
        "_size",
        "_streams",
        "_upstream",
        "answering",
        "asked_at",
        "begins",
        "body_max",
        "dialect",
        "kind",
        "lease",
        "lent",
        "load",
        "model",
        "near",
        "only",
        "options",
        "phase",
        "route",
        "tried",
        "wants",
    )

    def __init__(self, client: Downstream, arrival: Arrival, route: Route) -> None:
        # Request.
        self._client = client
        self._arrival = arrival
        self.route = route
        self.dialect: Dialect = route.dialect
        self.body_max: int | None = client.worker.settings.limits.body
        self.phase = Phase.BODY
        self.answering = False
        self.model = ""
        self.near = 0
        self.begins = False
        self.options = ""
        self.load = False
        self.wants = NOTHING
        self.kind = _OF_NO_KIND
        self._streams = False
        self._pieces: list[bytes] = []
        self._body = b""
        self._size = 0  # of the body
        self._close = False
        # Tries so far.
        self.asked_at = 0.0
        self.tried: list[str] = []
        self.only = ""
        self._outcomes: list[str] = []
        self._problems: list[str] = []
        self._held: Held | None = None
        self._refusal: tuple[int, str, int] | None = None
        # This try.
        self.lease = 0
        self.lent: Lent | None = None
        self._backend: Backend | None = None
        self._grant = _NO_GRANT
        self._from_cache = False  # a kept answer is asked for, of the control process
        self._upstream: Upstream | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._reused = False
        self._again = False  # on this backend, because the first connection had gone stale
        self._judging: Held | None = None
        self._collecting: Collecting | None = None
        self._sent_at = self._first_byte_at = -1.0

    # Client.

    def body(self, piece: bytes) -> None:
        self._pieces.append(piece)

    def body_ended(self) -> None:
        self._body = b"".join(self._pieces)
        self._pieces.clear()
        self._size = len(self._body)
        key = self._client.key
        try:
            may_keep = self._client.worker.may_keep
            request, self.wants = read_asked(self._arrival.said, self._body, self.route, key, may_keep)
        except BadBody as bad:
            self._answer(bad.status, bad.text, malformed=True)
            return
        self.model = request.model
        self.near = request.near
        self.begins = request.begins
        self.options = request.options
        self.load = request.load
        self._streams = request.stream
        if key is not None and self.model and not may_use(key, self.model):
            self._answer(403, f"the API key {key.name!r} may not use the model {self.model!r}")
        elif request.unload:
            self._hand_over()
        else:
            self.asked_at = self._client.worker.loop.time()
            self._ask()

    def client_left(self) -> None:
        phase, self.phase = self.phase, Phase.OVER
        self._forget_body()
        if phase is Phase.ASKED:
            self._client.worker.leases.forget(self)
        elif phase in {Phase.CONNECTING, Phase.SENT, Phase.PASSING}:
            self._done("left", self._drop_upstream())

    def client_full(self) -> None:
        if self._upstream is not None:
            self._upstream.pause()

    def client_drained(self) -> None:
        if self._upstream is not None:
            self._upstream.resume()

    def give_up(self, text: str) -> None:
        phase = self.phase
        upstream = self._upstream
        self.client_left()
        if phase is Phase.PASSING and upstream is not None:
            self._end_stream(upstream, text)
        elif phase is not Phase.OVER:
            self._answer(503, text, retry_after=1)

    # Lease.

    def _ask(self) -> None:
        self.phase = Phase.ASKED
        self.kind = kind_of(self.model, self.route, self.wants, self.near, self.options, begins=self.begins)
        self._client.worker.leases.ask(self)

    def granted(self, backend: Backend, grant: Grant) -> None:
        self._backend = backend
        self._grant = grant
        self._from_cache = grant.fallback == "cache"
        self._sent_at = self._first_byte_at = -1.0
        # HTTP/1.0 clients need bodies without chunks, and that is a matter of the connection.
        upstream = backend.pool.take() if self._arrival.head.minor and not self._from_cache else None
        if upstream is None:
            self._connect(backend)
        else:
            self._send(upstream, reused=True)

    def refused(self, status: int, text: str, retry_after: int) -> None:
        if status == 503 and not self.only and self._may_be_kept():
            self.only = "cache"
            self._refusal = status, text, retry_after
            self._ask()
            return
        status, text, retry_after = self._refusal or (status, text, retry_after)
        if self._held is not None:
            self._give(self._held)
        elif self._outcomes.count("died") >= retry.DEATHS_MAX:
            self._answer(502, f"no further host is tried, two failed with this request: {'; '.join(self._problems)}")
        else:
            why = f" ({'; '.join(self._problems)})" if self._problems else ""
            self._answer(status, text + why, retry_after=retry_after)

    def _may_be_kept(self) -> bool:
        """Whether there may be an answer to it that was kept, though this one is not to be: so far nobody has looked for it."""
        if self.wants.cache or not self._body:
            return False
        _, self.wants = read_asked(self._arrival.said, self._body, self.route, self._client.key, lambda: True)
        self.wants = self.wants._replace(keep=False)
        return bool(self.wants.cache)

    def backend_went_down(self) -> None:
        """Another backend is asked for at once where nothing has been passed on; a stream ends by itself."""
        if self.phase in {Phase.CONNECTING, Phase.SENT}:
            outcome = "died" if self.phase is Phase.SENT or self._again else "connect"
            self._drop_upstream()
            self._failed(outcome, "it was found to be down")

    def _hand_over(self) -> None:
        """A model that is to leave memory leaves that of every host: the control process knows where it is loaded."""
        client, body = self._client, self._body
        self.phase = Phase.OVER
        self._forget_body()
        head = self._arrival.head
        length = head.length if head.length == CHUNKED else self._size
        passage = Passage(client, replace(head, length=length))
        client.exchange = passage
        passage.body(body)
        passage.body_ended()

    # Backend.

    def _connect(self, backend: Backend) -> None:
        self.phase = Phase.CONNECTING
        worker = self._client.worker
        pool = None if self._from_cache else backend.pool
        upstream = Upstream(pool) if self._arrival.head.minor else PlainUpstream()
        self._connecting = worker.start(connect(backend.address, upstream, self, worker.settings.connect_seconds))

    def connected(self, upstream: Upstream) -> None:
        self._connecting = None
        if upstream.transport is None:
            self.connect_failed("it closed the connection at once")
        else:
            self._send(upstream, reused=False)

    def connect_failed(self, reason: str) -> None:
        """Where the request had been sent on a connection that was taken for stale, this shows that it was not."""
        self._connecting = None
        self._failed("died" if self._again else "connect", reason)

    def _send(self, upstream: Upstream, *, reused: bool) -> None:
        self.phase = Phase.SENT
        self._upstream = upstream
        self._reused = reused
        self._sent_at = self._client.worker.loop.time()
        if self._from_cache:
            upstream.send(self, kept_answer_request(self.wants.cache))
        else:
            arrival = self._arrival
            upstream.send(self, b"%b%d%b%b" % (arrival.before, self._size, arrival.after, self._body))
        if self._client.write_paused:  # by what an earlier answer has left behind
            upstream.pause()

    def head_arrived(self, upstream: Upstream, rest: bytes) -> None:
        if self._from_cache and upstream.status != 200:
            self._drop_upstream()
            self._failed("retryable", f"it answered {upstream.status}", upstream.status)
        elif upstream.status in _JUDGED and self.route.retryable and not self._grant.final:
            self._judging = Held(upstream, rest, self._added())
            upstream.sink = self._hold
        elif not rest and upstream.framing > 0 and self.route.retryable and not self._grant.final:
            upstream.sink = self._body_begins
        else:
            self._pass_on(upstream, rest)

    def completed(self, upstream: Upstream) -> None:
        judged, self._judging = self._judging, None
        if judged is not None:
            if retry.may_be_better_elsewhere(judged.status, judged.body):
                self._held = judged
                self._upstream = None
                upstream.release(self._client.worker.loop.time())
                self._failed("retryable", f"it answered {judged.status}", judged.status)
                return
            self._pass_on(upstream, judged.body)
        self._keep(upstream)
        self._done("served", upstream)
        self._upstream = None
        upstream.release(self._client.worker.loop.time())
        self._over(close=self._close)

    def lost(self, upstream: Upstream, reason: str) -> None:
        self._upstream = None
        if self.phase is Phase.PASSING:
            log.warning("answer was cut", **self._who(), reason=reason)
            text = f"{self._node()}: {reason}, the answer is not complete"
            self._done("cut", upstream)
            self._end_stream(upstream, text)
            return
        stale = upstream.silent and retry.was_stale(
            reused=self._reused, seconds=self._client.worker.loop.time() - self._sent_at
        )
        if stale and self._backend is not None:
            self._again = True
            self._connect(self._backend)
        else:
            self._failed("died", reason)

    def upstream_full(self) -> None:
        """The whole request is in memory already; nobody has to be slowed down."""

    def upstream_drained(self) -> None: ...

    # Decisions and their ends.

    def _body_begins(self, data: bytes) -> None:
        """Of an answer in one piece: a head alone is not passed on, for as long as nothing was another host can still give the answer."""
        if self._upstream is not None:
            self._pass_on(self._upstream, data)

    def _hold(self, data: bytes) -> None:
        held, upstream = self._judging, self._upstream
        if held is None or upstream is None:
            return
        held.add(data)
        if held.size > HELD_BYTES_MAX:
            self._judging = None
            self._pass_on(upstream, held.body)

    def _pass_on(self, upstream: Upstream, rest: bytes) -> None:
        self.phase = Phase.PASSING
        self.answering = True
        self._first_byte_at = self._client.worker.loop.time()
        if self._grant.first:
            self._client.worker.leases.first(self)
        self._forget_body()
        write = self._client.transport.write
        self._close = self._client.pass_on(upstream, rest, self._added())
        if self._grant.keep and upstream.status == 200:
            upstream.sink = self._collecting = Collecting(write, rest)
        else:
            upstream.sink = write

    def _keep(self, upstream: Upstream) -> None:
        if self._collecting is None:
            return
        body = self._collecting.body(chunked=upstream.chunked)
        if body is not None and is_whole(self.route, body, stream=self._streams):
            content_type = upstream.field(b"content-type").decode("latin-1")
            keep = Keep(self.wants.cache, self.wants.key, self.model, content_type, body)
            self._client.worker.leases.keep(keep)

    def _failed(self, outcome: str, reason: str, status: int = 0) -> None:
        """The try is over, and nothing of it has been passed on."""
        log.warning("try failed", **self._who(), outcome=outcome, reason=reason)
        self._judging = None
        if self._from_cache:
            # There was no better way left when this one was granted.
            self._done(outcome, status=status)
            self.refused(503, self._grant.reason, 1)
            return
        self._outcomes.append(outcome)
        self.tried.append(self._node())
        self._problems.append(f"{self._node()}: {reason}")
        self._done(outcome, status=status)
        self._again = False
        kept = bool(self.wants.cache) or self._may_be_kept()
        only = retry.next_try(self._outcomes, kept=kept) if self.route.retryable else None
        if only is not None:
            self.only = only
            self._ask()
        else:
            self.refused(503, "no further host is tried", 1)

    def _give(self, held: Held) -> None:
        self.answering = True
        self._over(close=self._client.pass_on(held, held.body, held.added))

    def _answer(self, status: int, text: str, *, malformed: bool = False, retry_after: int = 0) -> None:
        """An error of our own."""
        close = self._client.must_close
        added = self._client.fields
        self._client.transport.write(
            answers.error(self.dialect, status, text, added, close=close, malformed=malformed, retry_after=retry_after)
        )
        self._over(close=close)

    def _end_stream(self, upstream: Upstream, text: str) -> None:
        """Ends an answer that was begun: with an error in the client's own protocol where it stands between two lines."""
        self.phase = Phase.OVER
        line = answers.error_line(self.route, upstream, text) if self._streams else None
        if line is None:
            self._client.cut()
            return
        self._client.transport.write(line)
        # As its head has said: whoever was told that the connection stays sends his next request on it at once.
        self._client.finished(close=self._close)

    def _over(self, *, close: bool) -> None:
        self.phase = Phase.OVER
        self._forget_body()
        self._client.finished(close=close)

    def _forget_body(self) -> None:
        """Nobody will be sent it again."""
        self._body = b""
        self._pieces.clear()

    def _drop_upstream(self) -> Upstream | None:
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()
        return upstream

    def _done(self, outcome: str, upstream: Upstream | None = None, *, status: int = 0) -> None:
        backend, self._backend = self._backend, None
        upstream = upstream or self._upstream
        if backend is None:
            return
        sent, first, now = self._sent_at, self._first_byte_at, self._client.worker.loop.time()
        self._client.worker.leases.done(
            self,
            backend,
            outcome,
            status or (upstream.status if upstream is not None else 0),
            first - sent if first >= 0 else -1.0,
            now - sent if sent >= 0 else -1.0,
            upstream.received if upstream is not None else 0,
            self._usage(upstream) if first >= 0 and upstream is not None else NO_USAGE,
            now,
        )

    def _usage(self, upstream: Upstream) -> Usage:
        """What an answer that was passed on has cost; one that was kept costs nothing the second time."""
        if upstream.status != 200 or self._from_cache:
            return NO_USAGE
        return usage_of(self.route, upstream.last, upstream.received, self._size, chunked=upstream.chunked)

    def _node(self) -> str:
        return self._backend.node if self._backend is not None else ""

    def _added(self) -> bytes:
        return self._backend.fields + grant_fields(self._grant) if self._backend is not None else b""

    def _who(self) -> dict[str, str]:
        return {"node": self._node(), "route": self.route.name, "model": self.model}


def begin(client: Downstream, arrival: Arrival) -> Exchange:
    """What a request becomes: one that needs a lease, or one that the control process answers."""
    return Passage(client, arrival.head) if arrival.route is None else Inference(client, arrival, arrival.route)
