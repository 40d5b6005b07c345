from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.access import digest_of
from olladist.gateway.edge.door import Door, Entry, Turned
from olladist.gateway.edge.head import Refused
from olladist.gateway.edge.heads import HEAD_BYTES_MAX, HEADS_MAX, Heads, split_length
from olladist.gateway.edge.origins import Origins
from olladist.gateway.lease import Access, Key

ACCESS = Access((Key("team", digest_of(b"secret")),))
NAMES = (
    b"Content-Length",
    b"content-length",
    b"CONTENT-LENGTH",
    b"X-Ollama-Timeout",
    b"Authorization",
    b"Transfer-Encoding",
)
VALUES = (b"0", b"7", b"12", b"", b"007", b"7, 7", b"-1", b"Bearer secret", b"Bearer other", b"chunked")
LINES = st.tuples(st.sampled_from(NAMES), st.sampled_from((b": ", b":")), st.sampled_from(VALUES)).map(b"".join)
HEADS = st.builds(
    lambda path, lines: b"POST %b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (path, b"".join(line + b"\r\n" for line in lines)),
    st.sampled_from((b"/api/chat", b"/api/generate", b"/api/tags", b"/nowhere")),
    st.lists(LINES, max_size=4),
)


def heads() -> Heads:
    return Heads(Door(Origins(()), None))


def head(length: int, more: bytes = b"", key: bytes = b"secret") -> bytes:
    line = b"POST /api/chat HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\nContent-Length: %d\r\n%b\r\n"
    return line % (key, length, more)


def told(known: Heads, raw: bytes) -> object:
    try:
        arrival, length = known.read(raw, ACCESS)
    except Refused as refused:
        return refused.status
    return (
        arrival.verdict
        if isinstance(arrival.verdict, Turned)
        else (arrival.route, arrival.said, arrival.before, length)
    )


@given(st.lists(HEADS, max_size=12))
def test_what_came_before_changes_nothing(raws: list[bytes]) -> None:
    """Each head is read and judged as if it were the first, whatever stood in those before."""
    known = heads()
    for raw in raws:
        assert told(known, raw) == told(heads(), raw)


def test_the_same_head_is_read_once_whatever_its_length() -> None:
    """The length is that of this request."""
    known = heads()
    first, length = known.read(head(12), ACCESS)
    again, other = known.read(head(99_999), ACCESS)
    assert again is first
    assert (length, other) == (12, 99_999)


def test_keys_that_are_valid_no_more_are_forgotten() -> None:
    """Who was let in a moment ago is judged anew when the keys are others."""
    known = heads()
    assert isinstance(known.read(head(1), ACCESS)[0].verdict, Entry)
    assert isinstance(known.read(head(1), Access((Key("team", digest_of(b"new")),)))[0].verdict, Turned)


def test_who_is_turned_away_is_not_remembered() -> None:
    """Nor is what nobody needs a lease for."""
    known = heads()
    for raw in (head(1, key=b"wrong"), b"GET /api/tags HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"):
        assert known.read(raw, ACCESS)[0] is not known.read(raw, ACCESS)[0]


def test_what_is_remembered_is_bounded() -> None:
    """In number and in size."""
    known = heads()
    first, _ = known.read(head(1), ACCESS)
    for number in range(HEADS_MAX):
        known.read(head(1, b"X-Id: %d\r\n" % number), ACCESS)
    assert known.read(head(1), ACCESS)[0] is not first
    large = head(1, b"X-Id: " + b"x" * HEAD_BYTES_MAX + b"\r\n")
    assert known.read(large, ACCESS)[0] is not known.read(large, ACCESS)[0]


def test_a_length_in_another_form_is_none() -> None:
    """Such a head is read whole each time."""
    assert split_length(b"POST / HTTP/1.1\r\nContent-Length: 7\r\n\r\n") == (
        b"POST / HTTP/1.1\r\nContent-Length: ",
        b"\r\n\r\n",
        7,
    )
    for odd in (
        b"Content-Length:7",
        b"Content-Length: +7",
        b"Content-Length: ",
        b"CONTENT-LENGTH: 7",
        b"X: Content-Length: 7",
    ):
        assert split_length(b"POST / HTTP/1.1\r\n" + odd + b"\r\n\r\n") == (b"", b"", 0)
