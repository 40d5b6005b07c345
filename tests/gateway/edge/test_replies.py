from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.edge.head import for_client
from olladist.gateway.edge.replies import HEAD_BYTES_MAX, REPLIES_MAX, Replies

FIELDS = [
    (b"content-type", b"Content-Type", b"application/json"),
    (b"date", b"Date", b"now"),
    (b"content-length", b"Content-Length", b"2"),
]


def head(length: int, date: bytes = b"now") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: %b\r\nContent-Length: %d\r\n\r\n" % (
        date,
        length,
    )


def knowing() -> Replies:
    replies = Replies()
    replies.remember(head(2), 200, b"OK", FIELDS)
    return replies


@given(
    st.binary(max_size=40), st.sampled_from([b"", b"X-Ollama-Node: gpu1\r\n", b"X-A: 1\r\nX-B: 2\r\n"]), st.booleans()
)
def test_a_client_gets_the_head_it_would_have_got(body: bytes, added: bytes, close: bool) -> None:
    """With the length of this body, the first time and each time after it."""
    replies = knowing()
    for _ in range(2):
        found = replies.find(head(len(body)) + body)
        assert found is not None
        reply, end = found
        fields = [*FIELDS[:2], (b"content-length", b"Content-Length", b"%d" % len(body))]
        assert end == len(head(len(body)))
        assert reply.for_client(len(body), added, close=close) == for_client(
            200, b"OK", fields, added, chunked=False, close=close
        )


DATES = (b"now", b"no", b"later")


@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.sampled_from(DATES), st.sampled_from(range(-3, 4)), st.binary(max_size=12)),
        max_size=12,
    )
)
def test_what_was_found_before_changes_nothing(answers: list[tuple[int, bytes, int, bytes]]) -> None:
    """Each answer is found, or is not, as if it were the first one, whole or cut or with more behind it."""
    replies = knowing()
    replies.remember(head(2, b"later"), 200, b"OK", FIELDS)
    for length, date, cut, body in answers:
        data = head(length, date) + body
        data = data[:cut] if cut < 0 else data + b"x" * cut
        anew = knowing()
        anew.remember(head(2, b"later"), 200, b"OK", FIELDS)
        assert replies.find(data) == anew.find(data)


def test_what_is_not_whole_or_not_known_needs_a_parser() -> None:
    """A piece, more than the answer, another head, or one that has two lengths."""
    replies = knowing()
    assert replies.find(head(2) + b"{") is None
    assert replies.find(head(2) + b"{}HTTP") is None
    assert replies.find(head(2)[:-2]) is None
    assert replies.find(b"") is None
    assert replies.find(head(2, b"later") + b"{}") is None
    twice = head(2)[:-2] + b"Content-Length: 2\r\n\r\n"
    replies.remember(twice, 200, b"OK", [*FIELDS, FIELDS[2]])
    assert replies.find(twice + b"{}") is None


def test_what_is_remembered_of_a_backend_is_bounded() -> None:
    """A new Date each second pushes out the old ones; a large head is not kept."""
    replies = knowing()
    for second in range(REPLIES_MAX):
        replies.remember(head(2, b"%d" % second), 200, b"OK", FIELDS)
    assert replies.find(head(2) + b"{}") is None
    large = head(2, b"x" * HEAD_BYTES_MAX)
    replies.remember(large, 200, b"OK", FIELDS)
    assert replies.find(large + b"{}") is None
