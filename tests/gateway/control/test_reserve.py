from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.control.reserve import PATIENCE_SECONDS, Reserve
from olladist.gateway.lease import Ask

WORKERS = (1, 2, 3)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["lend", "end", "call", "answer", "hold", "forget", "gone", "wait"]),
            st.sampled_from(WORKERS),
            st.integers(1, 5),
        )
    )
)
def test_who_waits_for_a_call_is_let_go_once_when_all_have_answered(steps: list[tuple[str, int, int]]) -> None:
    """Against plain sets: in the order in which they came, nobody twice, and nobody before the last answer."""
    reserve, now = Reserve(), 0.0
    lent: set[tuple[int, int]] = set()
    called: set[int] = set()
    since = 0.0
    held: list[tuple[int, int]] = []
    for number, (what, worker, lease) in enumerate(steps):
        now += 0.3
        if what == "lend":
            reserve.lend(worker, lease)
            lent.add((worker, lease))
        elif what == "end":
            reserve.ended(worker, lease)
            lent.discard((worker, lease))
        elif what == "call":
            told = set(reserve.call(now))
            assert told == {each for each, _ in lent}
            since = now if told else since
            called |= told
            lent.clear()
        elif what == "answer":
            reserve.answered(worker)
            called.discard(worker)
        elif what == "hold":
            reserve.hold(worker, Ask(100 + number, "m", "chat"))
            held.append((worker, 100 + number))
        elif what == "forget" and held:
            assert reserve.forget(*held[-1])
            assert not reserve.forget(*held.pop())
        elif what == "gone":
            reserve.gone(worker)
            called.discard(worker)
            lent = {each for each in lent if each[0] != worker}
            held = [each for each in held if each[0] != worker]
        elif what == "wait":
            reserve.tick(now)
            if now >= since + PATIENCE_SECONDS:
                called.clear()
        assert reserve.is_called == bool(called)
        assert len(reserve) == len(held)
        if what != "hold":
            released = [(each, ask.id) for each, ask in reserve.release()]
            assert released == ([] if called else held)
            held = held if called else []
