import math

from hypothesis import given
from hypothesis import strategies as st

from olladist.scheduling.rates import Rate, Refused, Spent, admit, charge

PER_MINUTE = st.integers(1, 10_000)
PAUSES = st.lists(st.floats(0, 90), max_size=200)


def wait(spent: Spent, rate: Rate, now: float) -> float:
    """Seconds until a request is admitted."""
    answer = admit(spent, rate, now)[1]
    return answer.wait if isinstance(answer, Refused) else 0.0


def test_a_minutes_worth_may_come_at_once() -> None:
    """A quiet key may send all its requests in one instant, then one each time its share has come in."""
    spent, rate = Spent(), Rate(requests=3)
    for _ in range(3):
        spent, answer = admit(spent, rate, 100.0)
        assert answer is None

    assert admit(spent, rate, 100.0)[1] == Refused(20.0, "requests")
    assert admit(spent, rate, 119.9)[1] is not None
    assert admit(spent, rate, 120.0)[1] is None


def test_tokens_are_charged_afterwards() -> None:
    """A key may overdraw with the request that is running, and waits until its debt is paid."""
    rate = Rate(tokens=600)
    spent, answer = admit(Spent(), rate, 0.0)
    assert answer is None
    spent = charge(spent, rate, 1_000, 0.0)

    assert admit(spent, rate, 0.0)[1] == Refused(40.1, "tokens")
    assert admit(spent, rate, 40.1)[1] is None


def test_the_longer_wait_is_named() -> None:
    """Where both are used up, the answer names what takes longer."""
    rate = Rate(requests=1, tokens=60)
    spent, _ = admit(Spent(), rate, 0.0)
    assert admit(charge(spent, rate, 60, 0.0), rate, 0.0)[1] == Refused(60.0, "requests")
    assert admit(charge(spent, rate, 160, 0.0), rate, 0.0)[1] == Refused(101.0, "tokens")


def test_a_key_without_limits_is_never_refused() -> None:
    """No limit, no bucket."""
    spent = Spent()
    for _ in range(1_000):
        spent, answer = admit(spent, Rate(), 0.0)
        assert answer is None
    assert charge(spent, Rate(), 10**9, 0.0) == Spent()


def test_a_limit_that_is_raised_or_lowered_counts_from_now_on() -> None:
    """After a reload the bucket holds no more than the new minute's worth, and fills at the new pace."""
    spent, _ = admit(Spent(), Rate(requests=100), 0.0)

    lowered, _ = admit(spent, Rate(requests=1), 0.0)
    assert admit(lowered, Rate(requests=1), 0.0)[1] == Refused(60.0, "requests")
    assert wait(lowered, Rate(requests=60), 0.0) == 1.0


@given(PER_MINUTE, PAUSES)
def test_never_more_than_the_rate_and_one_burst(per_minute: int, pauses: list[float]) -> None:
    """In any stretch of time at most its share and one minute's worth are admitted."""
    spent, rate, now = Spent(), Rate(requests=per_minute), 0.0
    admitted: list[float] = []
    for pause in pauses:
        now += pause
        for _ in range(5):
            spent, answer = admit(spent, rate, now)
            admitted += [now] if answer is None else []

    for first, begin in enumerate(admitted):
        for last in range(first, len(admitted), 7):
            allowed = per_minute * (1 + (admitted[last] - begin) / 60)
            assert last - first + 1 <= allowed + 1e-5


@given(PER_MINUTE, st.lists(st.tuples(st.floats(0, 90), st.integers(0, 100_000)), max_size=100))
def test_tokens_keep_to_their_rate_but_for_what_runs(per_minute: int, uses: list[tuple[float, int]]) -> None:
    """All tokens together are within the rate, one burst, and the last request that was admitted with any left."""
    spent, rate, now, used, largest = Spent(), Rate(tokens=per_minute), 0.0, 0, 0
    for pause, tokens in uses:
        now += pause
        spent, answer = admit(spent, rate, now)
        if answer is None:
            spent = charge(spent, rate, tokens, now)
            used, largest = used + tokens, max(largest, tokens)

    assert used <= per_minute * (1 + now / 60) + largest + 1e-3


@given(PER_MINUTE, st.none() | PER_MINUTE, st.integers(0, 10**7), st.floats(0, 1e6))
def test_nobody_starves_and_the_wait_is_exact(requests: int, tokens: int | None, used: int, now: float) -> None:
    """After the time that a refusal names the key is admitted, and not much sooner."""
    rate = Rate(requests, tokens)
    spent = charge(Spent(), rate, used, now)
    while (taken := admit(spent, rate, now))[1] is None:
        spent = taken[0]
    seconds = wait(spent, rate, now)

    assert 0 < seconds < math.inf
    assert wait(spent, rate, now + seconds) == 0
    assert wait(spent, rate, now + seconds * 0.9 - 1e-3) > 0


@given(PER_MINUTE, st.floats(0, 1e5), st.floats(0, 1e5), st.integers(0, 10**6))
def test_waiting_longer_never_hurts_and_using_more_never_helps(
    per_minute: int, early: float, later: float, used: int
) -> None:
    """The wait falls with time and grows with what was used."""
    rate = Rate(tokens=per_minute)
    spent = charge(Spent(), rate, used, 0.0)

    assert wait(spent, rate, early + later) <= wait(spent, rate, early) + 1e-6
    assert wait(charge(spent, rate, 1, 0.0), rate, early) >= wait(spent, rate, early) - 1e-6


@given(PER_MINUTE, st.lists(st.floats(-1e6, 1e6), max_size=100))
def test_a_clock_that_jumps_is_harmless(per_minute: int, times: list[float]) -> None:
    """What is admitted is bounded by the time that went forwards, and a jump back blocks nobody for longer than before."""
    spent, rate, admitted, forwards, before = Spent(), Rate(requests=per_minute), 0, 0.0, None
    for now in times:
        forwards += max(now - before, 0) if before is not None else 0
        before = now
        spent, answer = admit(spent, rate, now)
        admitted += answer is None
        assert wait(spent, rate, now) <= 60 / per_minute + 1e-6

    assert admitted <= per_minute * (1 + forwards / 60) + 1e-3
