import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from olladist.gateway.edge.head import (
    CHUNKED,
    UNTIL_CLOSE,
    Refused,
    RequestHead,
    backend_head,
    for_client,
    for_control,
    is_hopeless,
    read_request,
    response_framing,
)

PLAIN = b"POST /api/chat HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n"

# Every one of these has made some pair of servers disagree on where a request ends.
SMUGGLED = [
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x5\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: \xb2\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5 5\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\n Content-Length: 5\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\x0bchunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nX: y\r\n\tfolded\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nX: \x00y\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    b"POST / HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST /  HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST / a HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST\t/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST / HTTP/1.1 \r\nHost: x\r\n\r\n",
    b"POST / HTTP/1.11\r\nHost: x\r\n\r\n",
    b"POST / http/1.1\r\nHost: x\r\n\r\n",
    b"POST / HTTP/2.0\r\nHost: x\r\n\r\n",
    b"POST /\xe9 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /\x7f HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /\r\n\r\n",
    b" POST / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"P(ST / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\r\nPOST / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nExpect: the-spanish-inquisition\r\n\r\n",
    b"\r\n\r\n",
]


def h11_request(raw: bytes) -> h11.Request:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=2**20)
    connection.receive_data(raw)
    event = connection.next_event()
    assert isinstance(event, h11.Request), event
    return event


def lowered(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes, bytes]]:
    return [(name.lower(), name, value) for name, value in fields]


def values(head: RequestHead, name: bytes) -> list[bytes]:
    return [line.partition(b":")[2].strip() for lower, line in head.lines if lower == name]


@pytest.mark.parametrize("raw", SMUGGLED)
def test_what_servers_disagree_on_is_refused(raw: bytes) -> None:
    """No head of the smuggling corpus gets past the reader."""
    with pytest.raises(Refused) as refusal:
        read_request(raw)

    assert refusal.value.status in {400, 417, 501, 505}
    assert refusal.value.text


@pytest.mark.parametrize(
    ("raw", "method", "target", "path", "length", "keep_alive"),
    [
        (PLAIN, b"POST", b"/api/chat", "/api/chat", 12, True),
        (b"GET /x?a=b%20c HTTP/1.1\r\nhost:\r\n\r\n", b"GET", b"/x?a=b%20c", "/x", 0, True),
        (b"GET http://a:1/x?y HTTP/1.1\r\nHost: a\r\n\r\n", b"GET", b"/x?y", "/x", 0, True),
        (b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", b"GET", b"/", "/", 0, True),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", b"OPTIONS", b"*", "*", 0, True),
        (b"GET / HTTP/1.0\r\n\r\n", b"GET", b"/", "/", 0, False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", b"GET", b"/", "/", 0, False),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, CLOSE\r\n\r\n", b"GET", b"/", "/", 0, False),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nconnection: close\r\n\r\n", b"GET", b"/", "/", 0, False),
        (b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n", b"PUT", b"/", "/", CHUNKED, True),
        (b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length:\t007 \r\n\r\n", b"PUT", b"/", "/", 7, True),
    ],
)
def test_heads_are_read(raw: bytes, method: bytes, target: bytes, path: str, length: int, *, keep_alive: bool) -> None:
    """What is beyond doubt is read as h11 reads it."""
    head = read_request(raw)

    assert (head.method, head.target, head.path, head.length, head.keep_alive) == (
        method,
        target,
        path,
        length,
        keep_alive,
    )
    assert h11_request(raw).method == method


pieces = st.sampled_from(
    [
        b"POST", b"GET", b"/", b"/api/chat", b" ", b"  ", b"HTTP/1.1", b"HTTP/1.0", b"\r\n", b"\n", b"\r", b"\t", b"\x00", b"\x7f", b"\x85",
        b"Host: x", b"Host:", b"Content-Length", b":", b": ", b"0", b"5", b"+5", b",", b"Transfer-Encoding", b"chunked", b"identity",
        b"Connection", b"close", b"X-Header: value", b"Expect: 100-continue", b"\xff", b"(", b"%2f", b"#",
    ]
)  # fmt: skip


def mutated() -> st.SearchStrategy[bytes]:
    """Heads that are nearly right: pieces cut out, doubled, or put in anywhere."""

    def put(raw: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
        for at, length, new in changes:
            where = at % len(raw) if raw else 0
            raw = raw[:where] + new + raw[where + length :]
        return raw

    change = st.tuples(st.integers(0, 200), st.integers(0, 6), st.one_of(pieces, st.binary(max_size=3)))
    return st.builds(put, st.sampled_from([PLAIN, *SMUGGLED]), st.lists(change, max_size=4))


@given(st.one_of(mutated(), st.lists(pieces, max_size=30).map(b"".join)))
@example(PLAIN)
def test_whatever_is_read_h11_reads_alike(raw: bytes) -> None:
    """Never more lenient than h11, and where both read, of one mind on method, target, fields and length."""
    raw = raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    try:
        head = read_request(raw)
    except Refused:
        return

    oracle = h11_request(raw)

    assert (head.method, b"1.%d" % head.minor) == (oracle.method, oracle.http_version)
    assert oracle.target.endswith(head.target) or head.target == b"/"
    # h11 shows "chunked" in lower case, however it was written.
    ours = [(name, line.partition(b":")[2].strip(b" \t")) for name, line in head.lines]
    assert [(n, v.lower()) for n, v in ours] == [(n, v.lower()) for n, v in oracle.headers]
    lengths = [int(value) for name, value in oracle.headers if name == b"content-length"]
    chunked = any(name == b"transfer-encoding" for name, _ in oracle.headers)
    assert head.length == (CHUNKED if chunked else sum(lengths))


@given(st.one_of(mutated(), st.lists(pieces, max_size=30).map(b"".join)))
def test_nothing_hopeless_is_ever_read(raw: bytes) -> None:
    """A head given up before its end would not have been taken at its end either."""
    if b"\r\n\r\n" in raw[:-4]:
        return
    for end in range(len(raw)):
        if is_hopeless(raw[: end + 1], end):
            with pytest.raises(Refused):
                read_request(raw)
            return


def test_a_start_that_may_go_on_is_not_hopeless() -> None:
    """However a good head is cut, it is waited for."""
    assert not any(is_hopeless(PLAIN[:end], looked) for end in range(len(PLAIN) + 1) for looked in (0, end // 2, end))


@given(mutated())
def test_what_goes_to_a_backend_has_one_plain_framing(raw: bytes) -> None:
    """Whatever came in, the head for a backend is one that our own strict reader and h11 take, with our length."""
    try:
        head = read_request(raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
    except Refused:
        return

    sent = b"42".join(backend_head(head))

    again = read_request(sent)
    assert (again.method, again.target, again.length) == (head.method, head.target, 42)
    assert values(again, b"host") == [b"127.0.0.1:11434"]
    assert not again.named
    assert h11_request(sent).target == head.target


def test_what_a_client_shows_to_the_gateway_stays_there() -> None:
    """Origin, Referer, keys, cookies and hop-by-hop fields do not reach a backend; the rest does, as it was written."""
    head = read_request(
        b"POST /api/chat?x HTTP/1.1\r\nHost: a\r\nOrigin: http://b\r\nREFERER: http://b\r\nAuthorization: Bearer s\r\nX-Api-Key: s\r\n"
        b"Cookie: s\r\nConnection: keep-alive, X-Secret\r\nX-Secret: s\r\nUpgrade: h2c\r\nTE: trailers\r\nExpect: 100-continue\r\n"
        b"Proxy-Authorization: s\r\nKeep-Alive: 5\r\nTransfer-Encoding: chunked\r\naccept:  text/plain\r\nUser-Agent: \xe9\r\n\r\n"
    )

    assert b"7".join(backend_head(head)) == (
        b"POST /api/chat?x HTTP/1.1\r\nHost: 127.0.0.1:11434\r\nContent-Length: 7\r\naccept:  text/plain\r\nUser-Agent: \xe9\r\n\r\n"
    )


ASKED = (
    b"POST /api/pull HTTP/1.1\r\nhost: fleet:1\r\nAuthorization: Bearer s\r\nX-Api-Key: s\r\nX-Forwarded-For: 192.0.2.1\r\n"
    b"X-Olladist-Key: boss\r\nX-OLLADIST-Internal: cache\r\nAccept: */*\r\nConnection: X-Olladist-Key\r\nContent-Length: 3\r\n\r\n"
)


def test_the_control_process_learns_who_asked() -> None:
    """By the name of the key and the address, as we say them; no key of a user and no word of ours from a client gets there."""
    assert for_control(read_request(ASKED), "198.51.100.7", "team") == (
        b"POST /api/pull HTTP/1.1\r\nhost: fleet:1\r\nContent-Length: 3\r\nX-Olladist-Key: team\r\n"
        b"X-Forwarded-For: 192.0.2.1, 198.51.100.7\r\nConnection: close\r\nAccept: */*\r\n\r\n"
    )


def test_what_may_hold_the_admin_token_keeps_it() -> None:
    """The control process checks it; nobody else's Authorization goes there."""
    assert b"\r\nAuthorization: Bearer s\r\n" in for_control(read_request(ASKED), "x", admin=True)
    assert b"Authorization" not in for_control(read_request(ASKED), "x", "team")


@pytest.mark.parametrize(
    "host", [b"evil.com/localhost", b"localhost@evil.com", b"x y", b'"localhost"', b"a\xe9", b"<x>", b"a,b\x01"]
)
def test_a_host_that_can_be_none_is_refused(host: bytes) -> None:
    """As Go's server does, before anything is judged by it."""
    with pytest.raises(Refused) as refusal:
        read_request(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")

    assert refusal.value.status == 400


@pytest.mark.parametrize("path", [b"/%", b"/a%zz", b"/api/version%2", b"/%g0/x?y"])
def test_a_path_with_half_an_escape_is_refused(path: bytes) -> None:
    """As Go's server does; in a query it may stand."""
    with pytest.raises(Refused) as refusal:
        read_request(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")

    assert refusal.value.status == 400
    assert read_request(b"GET /a%41?q=%zz HTTP/1.1\r\nHost: x\r\n\r\n").path == "/a%41"


@pytest.mark.parametrize("name", [b"Origin", b"Authorization", b"X-Api-Key"])
def test_who_asks_is_said_once(name: bytes) -> None:
    """Two of them are refused: one would be judged, and maybe the other one meant."""
    with pytest.raises(Refused, match="more than one"):
        read_request(b"GET / HTTP/1.1\r\nHost: x\r\n" + (name + b": a\r\n") * 2 + b"\r\n")


def test_a_backend_has_no_say_in_which_pages_may_read() -> None:
    """What it says of origins is dropped: the gateway has judged them."""
    fields = lowered([(b"Access-Control-Allow-Origin", b"*"), (b"Content-Length", b"0")])

    assert (
        for_client(200, b"OK", fields, b"", chunked=False, close=False)
        == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("framing", "sent"),
    [
        (b"Content-Length: 0\r\n", b"Content-Length: 0\r\n"),
        (b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: chunked\r\n"),
        (b"", b""),
    ],
)
def test_framing_for_the_control_process_is_written_anew(framing: bytes, sent: bytes) -> None:
    """No body, an empty one and one of unknown length stay what they are."""
    head = read_request(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n")

    assert (
        for_control(head, "x")
        == b"POST / HTTP/1.1\r\nHost: a\r\n" + sent + b"X-Forwarded-For: x\r\nConnection: close\r\n\r\n"
    )


def test_responses_keep_their_fields_and_say_where_they_came_from() -> None:
    """Hop-by-hop fields end here; chunked framing is said again because the chunks pass; ours win over the backend's."""
    fields = [
        (b"Content-Type", b"application/x-ndjson"),
        (b"Connection", b"keep-alive, X-Hop"),
        (b"connection", b"x-other"),
        (b"X-Other", b"1"),
        (b"X-Hop", b"1"),
        (b"Transfer-Encoding", b"chunked"),
        (b"x-ollama-node", b"liar"),
        (b"X-Ollama-Other", b"kept"),
        (b"Set-Cookie", b"a"),
        (b"Set-Cookie", b"b"),
    ]

    head = for_client(200, b"OK", lowered(fields), b"X-Ollama-Node: gpu1\r\n", chunked=True, close=True)

    assert head == (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nX-Ollama-Other: kept\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n"
        b"Transfer-Encoding: chunked\r\nX-Ollama-Node: gpu1\r\nConnection: close\r\n\r\n"
    )


def test_a_response_may_not_hide_its_framing() -> None:
    """Connection names fields to drop, but not the length that the client needs."""
    fields = lowered([(b"Connection", b"content-length"), (b"Content-Length", b"5")])

    head = for_client(200, b"OK", fields, b"", chunked=False, close=False)

    assert head == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"


@pytest.mark.parametrize(
    ("status", "fields", "framing"),
    [
        (200, [(b"Content-Length", b"5")], 5),
        (200, [(b"transfer-Encoding", b"Chunked")], CHUNKED),
        (200, [(b"Content-Type", b"x")], UNTIL_CLOSE),
        (204, [], 0),
        (304, [(b"Content-Length", b"5")], 0),
    ],
)
def test_the_end_of_a_response_is_known_from_its_head(
    status: int, fields: list[tuple[bytes, bytes]], framing: int
) -> None:
    """RFC 9112 §6.3, one line each."""
    assert response_framing(status, lowered(fields)) == framing


def test_a_coding_that_nobody_asked_for_is_an_error() -> None:
    """A backend may not send gzip as a transfer coding: the client has not said that it can read it."""
    with pytest.raises(ValueError, match="gzip"):
        response_framing(200, lowered([(b"Transfer-Encoding", b"gzip, chunked")]))
