"""The edge without sockets: any bytes, cut anywhere, against h11; and responses of a backend, cut anywhere, on their way to a client."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import cast

import h11
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from olladist.gateway.edge.backends import Backends
from olladist.gateway.edge.downstream import Downstream
from olladist.gateway.edge.heads import Arrival
from olladist.gateway.edge.leases import Leases
from olladist.gateway.edge.upstream import Pool, Upstream
from olladist.gateway.edge.worker import Worker
from olladist.gateway.lease import Access
from olladist.gateway.settings import Settings
from olladist.ollama.routes import Dialect

SETTINGS = Settings("/run/x", "", listen_host="0.0.0.0")  # noqa: S104  nothing listens; any Host is taken there
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Wire(asyncio.Transport):
    """A transport whose other end is a list."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.ended = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def writelines(self, list_of_data: object) -> None:
        self.written += cast("list[bytes]", list_of_data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.ended

    def close(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.ended = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


@dataclass
class Heard:
    """A request as an exchange hears it; `whole` once its body has ended."""

    method: bytes
    target: bytes
    body: bytes = b""
    whole: bool = False


@dataclass
class Echo:
    """An exchange that writes down what it hears and answers each request when it is whole."""

    client: Downstream
    heard: Heard
    dialect: Dialect = Dialect.OLLAMA
    answering: bool = False
    body_max: int | None = 2**20
    left: list[Heard] = field(default_factory=list)

    def body(self, piece: bytes) -> None:
        self.heard.body += piece

    def body_ended(self) -> None:
        self.heard.whole = True
        close = self.client.must_close
        self.client.transport.write(OK)
        self.client.finished(close=close)

    def client_left(self) -> None:
        self.left.append(self.heard)

    def client_full(self) -> None: ...

    def client_drained(self) -> None: ...

    def give_up(self, text: str) -> None: ...


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    loop = asyncio.new_event_loop()
    backends = Backends()
    leases = Leases(1, "/run/x", backends)
    leases.access = Access()
    yield Worker(SETTINGS, loop, backends, leases)
    loop.close()


def listen(worker: Worker, pieces: Sequence[bytes]) -> tuple[list[Heard], bytes, bool]:
    """What the exchanges hear of a connection that brings these pieces, what it is answered, and whether that ends it."""
    heard: list[Heard] = []

    def begin(client: Downstream, arrival: Arrival) -> Echo:
        head = arrival.head
        heard.append(Heard(head.method, head.target))
        return Echo(client, heard[-1])

    wire, client = Wire(), Downstream(worker, begin, lambda _: None, lambda _: None)
    client.connection_made(wire)
    for piece in pieces:
        if not wire.ended:
            client.data_received(piece)
    client.connection_lost(None)
    return heard, b"".join(wire.written), wire.ended


def by_h11(data: bytes) -> list[Heard]:
    """The same by h11, as far as it goes; for each request a new one, without the empty lines before (RFC 9112 §2.2), which it would not take."""
    heard: list[Heard] = []
    goes_on = True
    while goes_on:
        while data.startswith(b"\r\n"):
            data = data[2:]
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=2**20)
        connection.receive_data(data)
        goes_on = _one_by_h11(connection, heard)
        data = connection.trailing_data[0]
    return heard


def _one_by_h11(connection: h11.Connection, heard: list[Heard]) -> bool:
    """Reads one request; True where another may follow on the same connection."""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                heard.append(Heard(event.method, event.target))
            elif isinstance(event, h11.Data):
                heard[-1].body += event.data
            elif isinstance(event, h11.EndOfMessage):
                heard[-1].whole = True
                return connection.our_state is not h11.MUST_CLOSE and connection.their_state is not h11.MUST_CLOSE
            else:
                return False
    except h11.RemoteProtocolError:
        return False


REQUESTS = [
    b'POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n{"model":1}\r\n',
    b"POST /api/chat HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n",
    b"POST /api/chat HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n",
    b"GET /api/tags HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost:\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab",
    b"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    b"POST /x HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc",
]  # fmt: skip
ODD = st.sampled_from(
    [
        b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\t", b"\x00", b":", b"0\r\n\r\n", b"5\r\n", b"chunked", b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 3\r\n", b"Content-Length: 30\r\n", b"Host: y\r\n", b"Connection: close\r\n", b"HTTP/1.0", b"\x80", b"x" * 200, b"GET ",
    ]
)  # fmt: skip


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Some requests after one another, and here and there something that does not belong."""
    data = b"".join(draw(st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=4)))
    for _ in range(draw(st.integers(0, 3))):
        at, gone = draw(st.integers(0, len(data))), draw(st.integers(0, 4))
        data = data[:at] + draw(st.one_of(ODD, st.binary(max_size=3))) + data[at + gone :]
    return data


@st.composite
def cuts(draw: st.DrawFn, data: bytes) -> list[bytes]:
    places = sorted({0, len(data), *draw(st.lists(st.integers(0, len(data)), max_size=12))})
    return [data[start:end] for start, end in pairwise(places)]


def statuses(answered: bytes) -> list[bytes]:
    """But for 100 Continue, which who has sent the body already is not told."""
    return [status for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answered) if status != b"100"]


def turned_away(answered: bytes) -> bool:
    """Whether the door has answered a request that no exchange has heard of."""
    return (
        any(answered.count(b"HTTP/1.1 %d" % status) for status in (301, 307, 403))
        or b"Length: 0\r\nX-Ollama" in answered
    )


@given(streams())
def test_what_is_taken_h11_takes_alike(worker: Worker, data: bytes) -> None:
    """Every whole request that reaches an exchange is one that h11 reads from the same bytes, in the same place of the line."""
    heard, answered, _ = listen(worker, [data])
    assume(not turned_away(answered))

    oracle = by_h11(data)

    for ours, theirs in zip((h for h in heard if h.whole), oracle, strict=False):
        assert ours == theirs
    assert len([h for h in heard if h.whole]) <= len(oracle)


@given(st.data())
def test_it_does_not_matter_where_the_network_cuts(worker: Worker, data: st.DataObject) -> None:
    """The same requests, the same answers, the same end, whether bytes come at once or in pieces."""
    stream = data.draw(streams())
    pieces = data.draw(cuts(stream))

    at_once = listen(worker, [stream])
    in_pieces = listen(worker, pieces)

    whole = [h for h in at_once[0] if h.whole]
    assert [h for h in in_pieces[0] if h.whole] == whole
    assert statuses(in_pieces[1]) == statuses(at_once[1])
    assert in_pieces[2] == at_once[2]


@pytest.mark.parametrize("request_", REQUESTS)
def test_every_single_cut_is_the_same(worker: Worker, request_: bytes) -> None:
    """Two requests, cut in two at every byte, and byte by byte."""
    stream = request_ + REQUESTS[0]
    at_once = listen(worker, [stream])[0]

    for at in range(1, len(stream)):
        assert listen(worker, [stream[:at], stream[at:]])[0] == at_once
    assert listen(worker, [stream[at : at + 1] for at in range(len(stream))])[0] == at_once


@given(st.binary(max_size=300))
def test_no_bytes_break_it(worker: Worker, data: bytes) -> None:
    """Whatever it is: an answer, or silence that waits for more, and nothing is counted as held afterwards."""
    listen(worker, [data])

    assert worker.bodies.held == 0
    assert worker.connections.all == 0


@dataclass
class Passing:
    """A request of an upstream that passes on what comes, as Passage and Inference do."""

    client: Wire
    over: str = ""

    def head_arrived(self, upstream: Upstream, rest: bytes) -> None:
        self.client.write(rest)
        upstream.sink = self.client.write

    def completed(self, upstream: Upstream) -> None:
        self.over = "completed"

    def lost(self, upstream: Upstream, reason: str) -> None:
        self.over = "lost"

    def upstream_full(self) -> None: ...

    def upstream_drained(self) -> None: ...


LINES = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=8)


@st.composite
def responses(draw: st.DrawFn) -> tuple[bytes, bytes, bytes]:
    """(a whole response, its head, its body as it is framed): lines of NDJSON, in chunks that are cut anywhere, or with a length."""
    body = b"".join(b'{"response":"%b"}\n' % line.encode().replace(b"\n", b"") for line in draw(LINES))
    if draw(st.booleans()):
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n" % len(body)
        return head + body, head, body
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = [piece for piece in draw(cuts(body)) if piece]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    return head + framed, head, framed


@given(st.data())
def test_lines_cut_anywhere_reach_the_client_as_they_were(worker: Worker, data: st.DataObject) -> None:
    """Byte for byte, framing included; and the end is found at the last byte, neither before nor after."""
    whole, head, body = data.draw(responses())
    client, upstream = Wire(), Upstream(Pool())
    passing = Passing(client)
    upstream.connection_made(Wire())
    upstream.send(passing, b"")

    for piece in data.draw(cuts(whole)):
        assert passing.over == ""
        upstream.data_received(piece)

    assert b"".join(client.written) == body
    assert passing.over == "completed"
    assert whole == head + body
