import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from olladist.gateway.edge.chunked import Chunked
from olladist.gateway.edge.head import Refused

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\n"


def read(data: bytes, step: int) -> tuple[bytes, bytes | None]:
    """The body and, where it has ended, what follows it."""
    reader, pieces = Chunked(), []
    for at in range(0, len(data), step):
        pieces += reader.feed(data[at : at + step])
        if reader.done:
            return b"".join(pieces), reader.rest + data[at + step :]
    return b"".join(pieces), None


def h11_read(data: bytes) -> tuple[bytes, bool]:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=2**20)
    connection.receive_data(HEAD + data)
    connection.next_event()
    body = b""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Data):
            body += bytes(event.data)
        else:
            return body, isinstance(event, h11.EndOfMessage)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_a_body_is_read_however_it_is_cut(step: int) -> None:
    """Sizes in either case, extensions and trailers; the next request is left alone."""
    data = b"5\r\nhello\r\n00a;name=value\r\n, world!!!\r\n0\r\nTrailer: x\r\nOther:\r\n\r\n" + NEXT

    assert read(data, step) == (b"hello, world!!!", NEXT)


@pytest.mark.parametrize(
    "data",
    [
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello!\r\n0\r\n\r\n",
        b"g\r\nhello\r\n0\r\n\r\n",
        b"\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"5_0\r\nhello\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        b"5;\x00\r\nhello\r\n0\r\n\r\n",
        b"5;" + b"a" * 2000 + b"\r\nhello\r\n0\r\n\r\n",
        b"5;" + b"a" * 2000,
        b"0\r\nno colon\r\n\r\n",
        b"0\r\n folded: x\r\n\r\n",
        b"0\r\nTrailer: x\n\r\n",
        b"0\r\n\n",
        b"0\r\n" + b"A: b\r\n" * 100 + b"\r\n",
    ],
)
@pytest.mark.parametrize("step", [1, 1000])
def test_what_readers_disagree_on_is_refused(data: bytes, step: int) -> None:
    """Bare LF, sizes that are none, chunks longer than their size, endless lines: 400, all at once or byte by byte."""
    with pytest.raises(Refused) as refusal:
        read(data, step)

    assert refusal.value.status == 400


pieces = st.sampled_from(
    [b"5\r\nhello\r\n", b"0\r\n\r\n", b"0\r\n", b"\r\n", b"\n", b"\r", b"1", b"a", b";x", b"T: v\r\n", b"3\r\n\r\n\r\r\n", b" ", b"\x00"]
)  # fmt: skip


@given(st.lists(pieces, max_size=12).map(b"".join), st.integers(1, 9))
@example(b"5\r\nhello\r\n0\r\n\r\n", 1)
def test_whatever_is_read_h11_reads_alike(data: bytes, step: int) -> None:
    """Either refused, or the same body and the same verdict on whether it has ended."""
    try:
        body, rest = read(data, step)
    except Refused:
        return

    theirs, ended = h11_read(data)

    assert ended == (rest is not None)
    if ended:
        assert body == theirs


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_bytes_are_a_body_or_refused(data: bytes, step: int) -> None:
    """Nothing but Refused is ever raised, and never more comes out than went in."""
    try:
        body, _ = read(data, step)
    except Refused:
        return

    assert len(body) <= len(data)
