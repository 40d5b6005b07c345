"""How many of a host's slots are counted on where other people use it too, past the gateway.

Each trace of them (residents.py) takes some trust, time without one gives it back. Nobody can tell how many slots they have at once, so what
is taken is the share of all listings in the last minute that showed traces, but at least one slot for one trace.
"""

import math
from dataclasses import dataclass

# Seconds after which a trace counts for a third.
FADES = 60.0
# What one trace takes; /api/ps is read every 2 s, so traces in each reading add up to about 1.
TRACE = 0.033
# Less than that is nothing: one trace is forgotten after about 50 s.
FORGOTTEN = 0.015


@dataclass(slots=True)
class Trust:
    """`share` of the host that others seem to have, 0 to 1, at the moment `at`; `traces` were seen in all."""

    traces: int = 0
    share: float = 0.0
    at: float = -math.inf

    def saw(self, traces: int, now: float) -> None:
        """So many requests of others have left a trace since the last call."""
        self.share = self._faded(now)
        self.at = max(self.at, now)
        if traces > 0:
            self.traces += traces
            self.share = min(1.0, self.share + TRACE)

    def slots(self, slots: int, now: float) -> int:
        """Of so many, those that are ours: one at least."""
        share = self._faded(now)
        if not share:
            return slots
        return max(1, slots - max(1, round(share * slots)))

    def ours(self, slots: int, now: float) -> float:
        """Of the slots that are counted, the part that nobody else has: of a single one there may be little."""
        return min(1.0, slots * (1.0 - self._faded(now)) / self.slots(slots, now))

    def _faded(self, now: float) -> float:
        share = self.share * math.exp(-max(0.0, now - self.at) / FADES) if self.share else 0.0
        return share if share >= FORGOTTEN else 0.0
