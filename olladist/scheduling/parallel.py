"""How many requests a host works on at once for a model, where that is less than it says.

Nobody but Ollama knows for sure: OLLAMA_NUM_PARALLEL may be another on a host that olladist does not manage, and some models get one slot
whatever it says (server/sched.go). What tells is time: a request that was sent when fewer ran than the host has slots, and yet waited
there beyond what its final chunk accounts for, has waited for a slot.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

# A wait of that many seconds, and of this part of the work itself, is none of the network or of a busy GPU.
LATE = 0.5
PART = 0.25
# So many in excess of those that did not wait are believed.
ENOUGH = 3
# After so many seconds one more is tried, and twice as long after each time that it was refuted.
RETRIED = 600.0
RETRIED_MAX = 6 * 3600.0
# Where more than this part of those that ran alone were late, being late says nothing: Ollama answers some twice, and accounts for the
# second time only (server/routes.go ChatHandler, a format together with thinking). A new one counts for so much.
USUAL = 0.6
NEWEST = 0.25
# Models of one host of which anything is remembered.
MODELS_MAX = 256


@dataclass(slots=True)
class _Doubt:
    """`points` against there being `at` slots; `limit` is believed from `since` on, for `trial` seconds; `tried`: it was raised then."""

    at: float = math.inf
    points: int = 0
    limit: float = math.inf
    since: float = 0.0
    trial: float = RETRIED
    tried: bool = False


def hidden_wait(first_byte: float, duration: float, accounted: tuple[float, float, float]) -> float:
    """Seconds that a request waited on its host beyond `accounted`: its load, its prompt, its output; 0 where nothing says so.

    An answer that comes in one piece has its first byte at its end, and a client that reads slowly makes the end late: the less counts.
    """
    load, prompt, output = accounted
    if first_byte < 0 or duration < 0 or output <= 0:
        return 0.0
    before = max(load, 0.0) + max(prompt, 0.0)
    return max(0.0, min(first_byte - before, duration - before - output))


def is_late(waited: float, worked: float) -> bool:
    """Whether that is a wait for somebody else's request to end."""
    return waited >= max(LATE, PART * worked)


@dataclass(slots=True)
class Parallel:
    """One host."""

    _doubts: dict[str, _Doubt] = field(default_factory=dict)
    _alone: dict[str, float] = field(default_factory=dict)  # the part of those that ran alone and were late

    @property
    def doubts(self) -> int:
        """Models that may have fewer slots than the host says."""
        return len(self._doubts)

    def answered(self, model: str, beside: int, *, late: bool, now: float) -> None:
        """A request was sent as the `beside`th of those that ran there at once, itself included."""
        if beside < 2 or self._alone.get(model, 0.0) >= USUAL:
            return  # its wait says nothing of slots, for one there always is
        doubt = self._doubts.get(model)
        if doubt is None:
            if not late:
                return
            if len(self._doubts) >= MODELS_MAX:
                del self._doubts[next(iter(self._doubts))]
            doubt = self._doubts[model] = _Doubt()
        if late:
            doubt.points += 1
            doubt.at = min(doubt.at, beside)
            if doubt.points >= ENOUGH:
                self._believe(doubt, now)
        elif beside >= doubt.at:
            doubt.points = max(0, doubt.points - 1)
            if not doubt.points:
                doubt.at = math.inf

    def ran_alone(self, model: str, *, late: bool) -> bool:
        """Whether that one was late, as others are not: somebody else had the slot."""
        part = self._alone.pop(model, 0.0)
        if not late and part < NEWEST / 10:
            return False
        self._alone[model] = part = part + (late - part) * NEWEST
        if len(self._alone) > MODELS_MAX:
            del self._alone[next(iter(self._alone))]
        if part >= USUAL:
            self._doubts.pop(model, None)
        return late and part < USUAL

    def limits(self, slots: int, now: float) -> Mapping[str, int]:
        """The models that have fewer than `slots`, with those they have; a limit that has stood for long is tried anew."""
        for model, doubt in tuple(self._doubts.items()):
            while doubt.limit < slots and now - doubt.since >= doubt.trial:
                doubt.limit += 1
                doubt.tried = True
                doubt.since += doubt.trial
            if doubt.limit >= slots and not doubt.points and now - doubt.since >= RETRIED_MAX:
                del self._doubts[model]
        return {model: int(doubt.limit) for model, doubt in self._doubts.items() if doubt.limit < slots}

    def _believe(self, doubt: _Doubt, now: float) -> None:
        if doubt.tried:  # in vain
            doubt.trial = min(2 * doubt.trial, RETRIED_MAX)
            doubt.tried = False
        doubt.limit = min(doubt.limit, max(1.0, doubt.at - 1))
        doubt.since = now
        doubt.points = 0
        doubt.at = math.inf
