"""What a host has in memory, listing after listing, and what has changed there without us.

Ollama moves `expires_at` of a model when its last request ends, and with every listing while the first one runs (server/sched.go,
routes.go PsHandler). So a model whose time moves though nothing of ours is there has been used by somebody else; so has one that comes,
and so has whoever made one go before its time. Times of the host are compared with each other alone: how wrong its clock is does not matter.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

# What a listing says was true up to so many seconds before it came: as long as it may take.
LISTING = 10.0
# A runner that reads a prompt notices only at its end that its client has left (ollama #11889).
LINGERS = 60.0
# A host's clock that has gone so much faster or slower than ours since the last listing was set: nothing can be said of what went.
JUMP = 5.0
# An unload takes a while, and Ollama unloads a little after the time it has said.
SLACK = 5.0


class Resident(NamedTuple):
    """A row of /api/ps: `expires` in seconds of the host's clock; `size` in bytes, `vram` the part of it on GPUs."""

    expires: float
    size: int = 0
    vram: int = 0


class Changes(NamedTuple):
    """Models. `used` and `came`: by somebody else's doing. `gone`: before their time and not by ours. `ours`: what we load or have loaded."""

    used: frozenset[str] = frozenset()
    came: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()
    ours: frozenset[str] = frozenset()

    @property
    def foreign(self) -> int:
        """How many requests of others this shows, at least. What goes while we load has had to make room for that."""
        return len(self.used | self.came) or int(bool(self.gone) and not self.ours)


NOTHING = Changes()


@dataclass(slots=True)
class Residents:
    """One host. `rows` are those of the last listing; `read` is when it came, -inf where there was none."""

    rows: Mapping[str, Resident] = field(default_factory=dict)
    read: float = -math.inf
    _clock: float | None = None
    _running: dict[str, int] = field(default_factory=dict)
    _used: dict[str, float] = field(
        default_factory=dict
    )  # by model: until when what happens to it may be by requests of ours
    _unloaded: dict[str, float] = field(default_factory=dict)

    @property
    def running(self) -> Collection[str]:
        """Models of which requests of ours run there."""
        return self._running.keys()

    @property
    def unloaded(self) -> Collection[str]:
        """Models that we have asked it to let go of lately."""
        return self._unloaded.keys()

    def lingers(self, now: float) -> bool:
        """Whether it may still work on a request of ours that is over."""
        return any(until > now for until in self._used.values())

    def begins(self, model: str) -> None:
        """A request of ours is sent."""
        self._running[model] = self._running.get(model, 0) + 1

    def ends(self, model: str, now: float, *, lingers: bool = False) -> None:
        """`lingers`: the host may not know yet that it is over."""
        left = self._running.get(model, 0) - 1
        if left > 0:
            self._running[model] = left
        else:
            self._running.pop(model, None)
        until = now + (LINGERS if lingers else 0.0)
        self._used[model] = max(self._used.get(model, until), until)

    def unloads(self, model: str, now: float) -> None:
        """We have asked the host to let go of it."""
        self._unloaded[model] = now

    def forget(self) -> None:
        """Whatever comes next is the first that is known: the host was away, or nobody looked."""
        self.rows, self.read, self._clock = {}, -math.inf, None

    def listed(self, rows: Mapping[str, Resident], now: float, clock: float | None = None) -> Changes:
        """`clock`: what the host's own clock showed, where it said so."""
        before, since, was = self.rows, self.read, self._clock
        self.rows, self.read, self._clock = rows, now, clock
        for known in (self._used, self._unloaded):
            for model in [model for model, until in known.items() if until <= since - LISTING]:
                del known[model]
        if since == -math.inf:
            return NOTHING
        ours = self._used.keys() | self._running.keys()
        gone = self._gone(before, was, now - since).difference(ours, self._unloaded)
        loads = frozenset(ours - before.keys())
        if not loads <= rows.keys():
            # One of ours that was never listed: it is being loaded, or has the runner of the same weights under another name.
            return Changes(gone=gone, ours=loads)
        used = (m for m, row in rows.items() if m in before and row.expires != before[m].expires)
        came = frozenset(rows).difference(before, ours)
        return Changes(frozenset(used).difference(ours, self._unloaded), came, gone, loads)

    def _gone(self, before: Mapping[str, Resident], was: float | None, passed: float) -> frozenset[str]:
        """What left before its time. Nothing where the host does not say what time it is, or all is gone: it has been restarted."""
        clock = self._clock
        if clock is None or was is None or abs(clock - was - passed) > JUMP or not self.rows:
            return frozenset()
        return frozenset(m for m, row in before.items() if m not in self.rows and row.expires > clock + SLACK)
