"""How much a key may ask for: token buckets as values. `now` goes in, the next value and a decision come out.

A bucket holds one minute's worth at most, so that a key which was quiet may send a minute's requests at once, and never more
than `per_minute * minutes + per_minute` in any stretch of time. A request is taken before it runs; what it costs in tokens is
known when it has ended, so tokens are charged then, and a key that has overdrawn waits until the debt is paid.
"""

from typing import NamedTuple

_MINUTE = 60.0
# Of a request or a token: what adding up floats may lose. It is never gained twice, for what is taken is taken whole.
_DUST = 1e-6


class Rate(NamedTuple):
    """What a key may have per minute, at least 1; None: as much as it likes."""

    requests: int | None = None
    tokens: int | None = None


class Bucket(NamedTuple):
    """`level` is what it held at the time `at`, in seconds of whichever clock; negative for a debt."""

    level: float
    at: float


class Spent(NamedTuple):
    """What a key has left; None where nothing was ever taken."""

    requests: Bucket | None = None
    tokens: Bucket | None = None


class Refused(NamedTuple):
    """After `wait` seconds it is admitted, unless others come first. `what` is "requests" or "tokens": what lasts longer."""

    wait: float
    what: str


def admit(spent: Spent, rate: Rate, now: float) -> tuple[Spent, Refused | None]:
    """Takes one request where there is one, and not a token in debt; a refusal takes nothing."""
    requests = _at(spent.requests, rate.requests, now)
    tokens = _at(spent.tokens, rate.tokens, now)
    waits = {"requests": _wait(requests, rate.requests), "tokens": _wait(tokens, rate.tokens)}
    what = max(waits, key=lambda name: waits[name])
    if waits[what] > 0:
        return Spent(requests, tokens), Refused(waits[what], what)
    return Spent(requests and Bucket(requests.level - 1, now), tokens), None


def charge(spent: Spent, rate: Rate, tokens: int, now: float) -> Spent:
    """Takes tokens that have been used already, whether they are there or not."""
    bucket = _at(spent.tokens, rate.tokens, now)
    return Spent(spent.requests, bucket and Bucket(bucket.level - max(tokens, 0), now))


def _at(bucket: Bucket | None, per_minute: int | None, now: float) -> Bucket | None:
    """The bucket as it is now; None where there is no limit.

    A clock that goes back gives nothing and takes nothing: the bucket fills on from where it is.
    """
    if per_minute is None:
        return None
    if bucket is None:
        return Bucket(per_minute, now)
    gained = max(now - bucket.at, 0.0) * per_minute / _MINUTE
    return Bucket(min(bucket.level + gained, per_minute), now)


def _wait(bucket: Bucket | None, per_minute: int | None) -> float:
    """Seconds until there is one of what the bucket holds."""
    if bucket is None or per_minute is None or bucket.level >= 1 - _DUST:
        return 0.0
    return (1 - bucket.level) * _MINUTE / per_minute
