from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.access import digest_of
from olladist.gateway.edge.door import Door, Entry, Turned
from olladist.gateway.edge.head import Refused
from olladist.gateway.edge.heads import (
    DIGITS_MAX,
    HEAD_BYTES_MAX,
    HEADS_MAX,
    Arrival,
    Heads,
    length_between,
    split_length,
)
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


def told(known: Heads, raw: bytes, last: Arrival | None = None) -> tuple[Arrival | None, object]:
    try:
        arrival, length = known.read(raw, ACCESS, last)
    except Refused as refused:
        return last, refused.status
    if isinstance(arrival.verdict, Turned):
        return arrival, arrival.verdict
    return arrival, (arrival.route, arrival.said, arrival.before, length)


@given(st.lists(HEADS, max_size=12))
def test_what_came_before_changes_nothing(raws: list[bytes]) -> None:
    """Each head is read and judged as if it were the first, whatever stood in those before, on its connection or others."""
    known, last = heads(), None
    for raw in raws:
        anew = told(heads(), raw)[1]
        assert told(known, raw)[1] == anew
        last, said = told(known, raw, last)
        assert said == anew


@given(HEADS, st.integers(-1, 10**19))
def test_a_head_that_differs_in_its_length_alone_is_the_same(raw: bytes, length: int) -> None:
    """What it has before and after the digits is found in it again, with whatever number, and nothing else is."""
    before, after, was = split_length(raw)
    if before:
        assert length_between(raw, before, after) == was
        changed = before + b"%d" % length + after
        assert length_between(changed, before, after) == (length if 0 <= length < 10**DIGITS_MAX else -1)
        assert length_between(changed[:-1], before, after) == -1
        assert length_between(before[:-1] + after, before, after) == -1


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
    last, _ = known.read(head(1), ACCESS)
    assert isinstance(last.verdict, Entry)
    other = Access((Key("team", digest_of(b"new")),))
    assert isinstance(known.read(head(1), other)[0].verdict, Turned)
    assert isinstance(known.read(head(1), other, last)[0].verdict, Turned)


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
    last, _ = known.read(large, ACCESS)
    assert last is not known.read(large, ACCESS, last)[0]


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
