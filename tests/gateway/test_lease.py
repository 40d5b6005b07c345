from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.lease import (
    MESSAGE_BYTES_MAX,
    Ask,
    Backend,
    Done,
    Grant,
    Held,
    Hello,
    Refuse,
    Table,
    ToControl,
    ToWorker,
    Unpacker,
    Use,
    Used,
    pack,
)

ids = st.integers(min_value=0, max_value=2**53)
to_control = st.one_of(
    st.builds(Hello, ids, ids, st.lists(st.builds(Held, ids, st.text(), st.text()), max_size=3).map(tuple)),
    st.builds(Ask, ids, st.text(), st.text(), st.lists(ids, max_size=3).map(tuple), ids),
    st.builds(Done, ids, ids, st.sampled_from(["served", "died"]), ids, st.floats(0, 10), st.floats(0, 10), ids),
    st.builds(
        Used, ids, st.lists(st.builds(Use, st.floats(0, 10), st.floats(0, 10), ids), min_size=1, max_size=3).map(tuple)
    ),
)
backends = st.builds(Backend, ids, st.text(), st.text(), ids, st.booleans(), st.lists(st.text(), max_size=3).map(tuple))
to_worker = st.one_of(
    st.builds(Table, ids, st.text(), st.lists(backends, max_size=3).map(tuple)),
    st.builds(Grant, ids, ids),
    st.builds(Refuse, ids, ids, st.text(), ids),
)


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(edges)]


@given(st.lists(to_control, max_size=5), st.lists(st.integers(0, 500), max_size=20))
def test_what_a_worker_sends_arrives_however_it_is_cut(messages: list[ToControl], cuts: list[int]) -> None:
    """Messages come out equal and in order wherever the stream of bytes is split."""
    unpacker = Unpacker[ToControl](ToControl)

    got = [m for piece in in_pieces(b"".join(map(pack, messages)), cuts) for m in unpacker.feed(piece)]

    assert got == messages


@given(st.lists(to_worker, max_size=5), st.lists(st.integers(0, 500), max_size=20))
def test_what_the_control_process_sends_arrives_however_it_is_cut(messages: list[ToWorker], cuts: list[int]) -> None:
    """The other direction, with tables."""
    unpacker = Unpacker[ToWorker](ToWorker)

    got = [m for piece in in_pieces(b"".join(map(pack, messages)), cuts) for m in unpacker.feed(piece)]

    assert got == messages


@given(st.binary(max_size=200))
def test_garbage_is_messages_or_a_value_error(data: bytes) -> None:
    """Whatever bytes come, nothing but ValueError is raised (msgspec's errors are ValueErrors)."""
    unpacker = Unpacker[ToControl](ToControl)

    with suppress(ValueError):
        unpacker.feed(data)


def test_a_message_over_the_limit_is_refused_before_it_is_read() -> None:
    """The length alone is enough to refuse."""
    unpacker = Unpacker[ToControl](ToControl)

    with pytest.raises(ValueError, match="at most"):
        unpacker.feed((MESSAGE_BYTES_MAX + 1).to_bytes(4, "little"))
