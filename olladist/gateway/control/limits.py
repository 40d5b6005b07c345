"""What a key may ask for per minute: kept here, for all workers together."""

import math
from collections import Counter
from collections.abc import Callable

from olladist.gateway.control.keys import Keys
from olladist.gateway.lease import Ask, Refuse
from olladist.inventory.model import ApiKey
from olladist.scheduling.rates import Rate, Refused, Spent, admit, charge


class RateLimits:
    """Buckets by key. The rates are those of `keys` at the moment, so that a reload counts at once.

    A control process that starts anew gives every key a full bucket. `limited` counts refusals by key and limit.
    """

    def __init__(self, keys: Keys, now: Callable[[], float]) -> None:
        self.limited: Counter[tuple[str, str]] = Counter()
        self._keys = keys
        self._now = now
        self._spent: dict[str, Spent] = {}

    def admit(self, ask: Ask) -> Refuse | None:
        """Why a request may not run now, or None, which takes it from its key; one that is tried again was taken already."""
        if ask.tried or ask.only or not self.are_set(ask.key):
            return None
        key = self._keys.declared[ask.key]
        self._spent[key.name], refused = self._try(key)
        if refused is None:
            return None
        self.limited[key.name, refused.what] += 1
        return _refuse(ask, key, refused)

    def foresee(self, ask: Ask) -> Refuse | None:
        """Why it would not be admitted now; takes nothing."""
        if not self.are_set(ask.key):
            return None
        key = self._keys.declared[ask.key]
        refused = self._try(key)[1]
        return refused and _refuse(ask, key, refused)

    def are_set(self, name: str) -> bool:
        """Whether the key has any."""
        key = self._keys.declared.get(name)
        return key is not None and (key.requests_per_minute is not None or key.tokens_per_minute is not None)

    def charge(self, name: str, tokens: int) -> None:
        """Takes what an answer has cost, once it is known."""
        key = self._keys.declared.get(name)
        if key is not None and key.tokens_per_minute is not None and tokens:
            self._spent[name] = charge(self._spent.get(name, Spent()), _rate(key), tokens, self._now())

    def _try(self, key: ApiKey) -> tuple[Spent, Refused | None]:
        return admit(self._spent.get(key.name, Spent()), _rate(key), self._now())


def _rate(key: ApiKey) -> Rate:
    return Rate(key.requests_per_minute, key.tokens_per_minute)


def _refuse(ask: Ask, key: ApiKey, refused: Refused) -> Refuse:
    allowed = key.requests_per_minute if refused.what == "requests" else key.tokens_per_minute
    retry_after = math.ceil(refused.wait)
    text = f"the key {key.name!r} has used its {allowed} {refused.what} per minute, please try again in {retry_after} s"
    return Refuse(ask.id, 429, text, retry_after)
