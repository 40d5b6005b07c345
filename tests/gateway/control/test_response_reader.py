"""What is made of the bytes that a server answers with."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.control.response_reader import ResponseReader
from olladist.gateway.control.upstreams import Answered, Failed

CREATED = b"HTTP/1.1 201 Created\r\nDate: now\r\nContent-Length: 0\r\n\r\n"
WRONG = b'HTTP/1.1 400 Bad\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n3\r\n":1\r\n1\r\n}\r\n0\r\n\r\n'
WHOLE = {CREATED: Answered(201, "", b"", "now"), WRONG: Answered(400, "application/json", b'{"a":1}')}


def read(*pieces: bytes, bytes_max: int = 1000) -> tuple[Answered, ResponseReader]:
    """All of it, and then the connection ends."""
    reader = ResponseReader(bytes_max)
    for piece in pieces:
        if (answered := reader.feed(piece)) is not None:
            return answered, reader
    return reader.ended(), reader


@given(st.sampled_from(list(WHOLE)).flatmap(lambda raw: st.tuples(st.just(raw), st.integers(0, len(raw)))))
def test_an_answer_in_any_pieces(cut: tuple[bytes, int]) -> None:
    """Wherever it is split."""
    raw, at = cut

    answered, reader = read(raw[:at], raw[at:])

    assert answered == WHOLE[raw]
    assert reader.keep


@given(st.one_of(st.binary(), st.binary().map(lambda junk: b"HTTP/1.1 200 OK\r\n" + junk)), st.integers(0, 40))
def test_any_bytes_are_an_answer_or_a_failure(junk: bytes, cut: int) -> None:
    """Never anything else."""
    with contextlib.suppress(Failed):
        assert 200 <= read(junk[:cut], junk[cut:])[0].status <= 599


@given(st.integers(0, len(WRONG) - 1))
def test_half_an_answer_is_none(cut: int) -> None:
    """A connection that ends before its answer does is a failure."""
    with pytest.raises(Failed, match="closed the connection"):
        read(WRONG[:cut])


def test_the_end_of_the_connection_ends_an_answer_without_a_length() -> None:
    """As HTTP/1.0 has it; nobody asks again on it."""
    answered, reader = read(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nwo", b"rd")

    assert answered == Answered(200, "text/plain", b"word")
    assert not reader.keep


def test_what_comes_before_the_answer_is_passed_over() -> None:
    """100 and 103 are no answers, and their fields are not the answer's."""
    answered, _ = read(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nDate: then\r\n\r\n", CREATED)

    assert answered == WHOLE[CREATED]


def test_a_second_answer_ends_the_connection() -> None:
    """It would be taken for the answer to the next question."""
    answered, reader = read(CREATED + CREATED)

    assert answered == WHOLE[CREATED]
    assert not reader.keep


def test_a_protocol_that_nobody_asked_for() -> None:
    """No answer in HTTP follows."""
    with pytest.raises(Failed):
        read(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100_000, "answered more than 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, "head has over 65536 bytes"),
        (b"HTTP/1.1 100 Go\r\n\r\n" * 10_000, "head has over 65536 bytes"),
    ],
)
def test_an_answer_without_an_end_is_not_kept(raw: bytes, why: str) -> None:
    """Nobody fills our memory."""
    with pytest.raises(Failed, match=why):
        read(*(raw[at : at + 1000] for at in range(0, len(raw), 1000)))
