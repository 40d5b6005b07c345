from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.control.sketch import quantile
from olladist.gateway.control.stats import LONGEST, NAMES_MAX, OTHER, STEP, Period, Stats
from olladist.gateway.control.uses import columns
from olladist.gateway.lease import NO_USAGE, Usage, Use


class Clock:
    time = 1000.0

    def __call__(self) -> float:
        return self.time


def ended(
    stats: Stats,
    model: str = "tiny",
    node: str = "gpu1",
    key: str = "",
    first_byte: float = 0.1,
    usage: Usage = NO_USAGE,
    failed: bool = False,
) -> None:
    stats.ended(model, node, key, columns([Use(first_byte, 9.0, 0, usage)]), failed=failed)


def test_each_request_counts_for_all_that_it_concerns() -> None:
    """For the whole, its model, its node and its key; without a key for no key."""
    stats = Stats(Clock())
    ended(stats, key="ci", usage=Usage(5, 20, 0.1, 0.5, 2.0))
    ended(stats, model="big", failed=True, first_byte=-1.0)

    assert stats.whole.ever().requests == 2
    assert {kind: set(periods) for kind, periods in stats.periods.items()} == {
        "model": {"tiny", "big"}, "node": {"gpu1"}, "key": {"ci"},
    }  # fmt: skip
    sums = stats.periods["key"]["ci"].ever()
    assert (sums.requests, sums.errors, sums.prompt_tokens, sums.output_tokens) == (1, 0, 5, 20)
    assert (sums.prompt_seconds, sums.output_seconds) == (0.5, 2.0)
    assert stats.periods["model"]["big"].ever().errors == 1
    assert stats.periods["model"]["big"].ever().first_bytes == {}


def test_the_last_minutes_forget_and_the_total_does_not() -> None:
    """What is older than a period is not in it, and stays in the total for ever, its times too."""
    clock = Clock()
    stats = Stats(clock)
    ended(stats, first_byte=2.0)
    clock.time += LONGEST + 2 * STEP
    ended(stats, first_byte=0.1)

    assert stats.whole.since(stats.step - round(LONGEST / STEP)).requests == 1
    assert stats.whole.ever().requests == 2
    assert (quantile(stats.whole.ever().first_bytes, 1.0) or 0) > 1.9


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 5)), max_size=50), st.integers(1, 90))
def test_a_period_holds_what_happened_in_it(events: list[tuple[int, int]], steps: int) -> None:
    """Whenever things happen, the sum over the last steps is what happened then, and the total is all."""
    period, now, happened = Period(0), 0, []
    for pause, count in events:
        now += pause
        for _ in range(count):
            period.at(now).requests += 1
        happened.append((now, count))

    since = now - steps
    assert period.since(since).requests == sum(count for at, count in happened if at >= since)
    assert period.ever().requests == sum(count for _, count in happened)


def test_names_are_bounded() -> None:
    """Models come and go for years: beyond the bound they are counted together."""
    stats = Stats(Clock())
    for number in range(NAMES_MAX + 10):
        ended(stats, model=f"m{number}")

    assert len(stats.periods["model"]) == NAMES_MAX + 1
    assert stats.periods["model"][OTHER].ever().requests == 10


def test_other_events_are_counted_by_name() -> None:
    """Refusals, fallbacks, retries."""
    stats = Stats(Clock())
    stats.count("refused")
    stats.count("fallbacks", "tiny", "local", "ci")

    assert (stats.whole.ever().refused, stats.whole.ever().fallbacks) == (1, 1)
    assert stats.periods["node"]["local"].ever().fallbacks == 1
