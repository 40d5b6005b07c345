from olladist.gateway.control.keys import Keys
from olladist.gateway.control.limits import RateLimits
from olladist.gateway.lease import Ask, Refuse
from olladist.inventory.model import ApiKey


class Clock:
    time = 50.0

    def __call__(self) -> float:
        return self.time


def key(name: str, requests: int | None = None, tokens: int | None = None) -> ApiKey:
    return ApiKey(
        name, sha256=name.encode().hex().rjust(64, "0"), requests_per_minute=requests, tokens_per_minute=tokens
    )


def limits(*keys: ApiKey) -> tuple[RateLimits, Clock, Keys]:
    clock, known = Clock(), Keys(keys, {})
    return RateLimits(known, clock), clock, known


def test_a_key_gets_its_requests_and_no_more() -> None:
    """The third of two is told when to come back, in words; then it is admitted."""
    rates, clock, _ = limits(key("ci", requests=2))
    assert [rates.admit(Ask(n, "tiny", "chat", key="ci")) for n in (1, 2)] == [None, None]

    text = "the key 'ci' has used its 2 requests per minute, please try again in 30 s"
    assert rates.admit(Ask(3, "tiny", "chat", key="ci")) == Refuse(3, 429, text, 30)
    assert rates.limited == {("ci", "requests"): 1}
    clock.time += 30
    assert rates.admit(Ask(4, "tiny", "chat", key="ci")) is None


def test_to_foresee_takes_nothing() -> None:
    """However often it is asked, the next request gets what was told of it."""
    rates, _, _ = limits(key("ci", requests=1))
    ask = Ask(1, "tiny", "chat", key="ci")

    assert [rates.foresee(ask) for _ in range(5)] == [None] * 5
    assert rates.admit(ask) is None
    told = rates.foresee(ask)
    assert told is not None
    assert told == rates.admit(ask)
    assert rates.limited == {("ci", "requests"): 1}
    assert rates.foresee(Ask(2, "tiny", "chat")) is None


def test_keys_do_not_share() -> None:
    """What one key uses is not taken from another, nor from requests without a key."""
    rates, _, _ = limits(key("a", requests=1), key("b", requests=1), key("free"))
    for name in ("a", "b", "free", "free", "", "", "unknown"):
        assert rates.admit(Ask(1, "tiny", "chat", key=name)) is None
    assert rates.admit(Ask(1, "tiny", "chat", key="a")) is not None


def test_a_second_try_of_a_request_costs_nothing() -> None:
    """A request that goes to another backend was taken from its key already."""
    rates, _, _ = limits(key("ci", requests=1))
    assert rates.admit(Ask(1, "tiny", "chat", key="ci")) is None
    assert rates.admit(Ask(2, "tiny", "chat", (0,), key="ci")) is None


def test_tokens_are_charged_when_they_are_known() -> None:
    """Prompt and answer count together; what an answer does not say counts as nothing."""
    rates, clock, _ = limits(key("ci", tokens=100))
    rates.charge("ci", 150)
    rates.charge("ci", 0)
    rates.charge("", 2 * 10**6)

    refused = rates.admit(Ask(1, "tiny", "chat", key="ci"))
    text = "the key 'ci' has used its 100 tokens per minute, please try again in 31 s"
    assert refused == Refuse(1, 429, text, 31)
    clock.time += 31
    assert rates.admit(Ask(1, "tiny", "chat", key="ci")) is None


def test_a_reload_changes_rates_at_once() -> None:
    """A limit that was raised, or taken away, counts with the next request."""
    rates, _, keys = limits(key("ci", requests=1))
    rates.admit(Ask(1, "tiny", "chat", key="ci"))
    keys.swap([key("ci")], {})

    assert rates.admit(Ask(2, "tiny", "chat", key="ci")) is None
