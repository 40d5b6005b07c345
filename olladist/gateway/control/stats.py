"""What a gateway has done, in all and lately, by model, node and key: counted here, shown by /admin/stats."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, TypeAlias

from olladist.gateway.control.sketch import bucket
from olladist.gateway.control.uses import Uses

# The last minutes are read in steps of this: "one minute" is between 60 s and 70 s.
STEP = 10.0
LONGEST = 15 * 60.0
_STEPS = round(LONGEST / STEP)

# Names beyond these are counted together: models come and go, and what is remembered must not grow for ever.
NAMES_MAX = 1_000
OTHER = "other"

Kind: TypeAlias = Literal["model", "node", "key"]


# What is added up as it stands.
_PLAIN = (
    "cached",
    "errors",
    "fallbacks",
    "left",
    "output_seconds",
    "output_tokens",
    "prompt_seconds",
    "prompt_tokens",
    "rate_limited",
    "refused",
    "requests",
    "retries",
)


class Sums:
    """Counts of one period. Seconds are what backends say; `first_bytes` is a sketch."""

    __slots__ = (*_PLAIN, "first_bytes")

    def __init__(self) -> None:
        self.requests = self.errors = self.left = self.retries = self.fallbacks = self.cached = 0
        self.refused = self.rate_limited = self.prompt_tokens = self.output_tokens = 0
        self.prompt_seconds = self.output_seconds = 0.0
        self.first_bytes: dict[int, int] = {}

    def count(self, uses: Uses) -> None:
        self.requests += uses.requests
        self.prompt_tokens += uses.prompt_tokens
        self.output_tokens += uses.output_tokens
        self.prompt_seconds += sum([seconds for _, seconds in uses.prompts])
        self.output_seconds += sum([seconds for _, seconds in uses.outputs])
        counts = self.first_bytes
        for number in map(bucket, uses.first_bytes):
            counts[number] = counts.get(number, 0) + 1

    def add(self, other: "Sums") -> None:
        for name in _PLAIN:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for number, count in other.first_bytes.items():
            self.first_bytes[number] = self.first_bytes.get(number, 0) + count


class Period:
    """The sums of one model, node or key, in steps; those that are older than LONGEST are one sum."""

    __slots__ = ("_current", "_older", "_recent", "_step")

    def __init__(self, step: int) -> None:
        self._older = Sums()
        self._recent: deque[tuple[int, Sums]] = deque()
        self._step = step
        self._current = Sums()

    def at(self, step: int) -> Sums:
        """Where to count what happens now."""
        if step != self._step:
            self._recent.append((self._step, self._current))
            self._step, self._current = step, Sums()
            while self._recent and self._recent[0][0] < step - _STEPS:
                self._older.add(self._recent.popleft()[1])
        return self._current

    def since(self, step: int) -> Sums:
        """All from that step on."""
        return _total(sums for at, sums in (*self._recent, (self._step, self._current)) if at >= step)

    def ever(self) -> Sums:
        return _total((self._older, *(sums for _, sums in self._recent), self._current))


def _total(parts: Iterable[Sums]) -> Sums:
    total = Sums()
    for part in parts:
        total.add(part)
    return total


class Stats:
    """Counts requests as they end. `now` is any clock that goes forwards."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._periods: dict[Kind, dict[str, Period]] = {"model": {}, "node": {}, "key": {}}
        self._whole = Period(0)
        self._now = now
        self._step = self.step
        self._cells: dict[tuple[str, str, str], Sums] = {}  # of this step, not added up yet

    @property
    def step(self) -> int:
        return int(self._now() / STEP)

    def at(self, model: str, node: str, key: str) -> Sums:
        """Where to count what concerns these now; "" for what it does not concern."""
        step = self.step
        if step != self._step:
            self._add_up()
            self._step = step
        cell = self._cells.get((model, node, key))
        if cell is None:
            cell = self._cells[model, node, key] = Sums()
        return cell

    @property
    def whole(self) -> Period:
        """Of all there is."""
        self._add_up()
        return self._whole

    @property
    def periods(self) -> Mapping[Kind, Mapping[str, Period]]:
        """By model, node and key."""
        self._add_up()
        return self._periods

    def _add_up(self) -> None:
        cells, self._cells = self._cells, {}
        for (model, node, key), cell in cells.items():
            self._whole.at(self._step).add(cell)
            kinds: tuple[tuple[Kind, str], ...] = (("model", model), ("node", node), ("key", key))
            for kind, name in kinds:
                if name:
                    self._period(kind, name, self._step).at(self._step).add(cell)

    def count(self, what: str, model: str = "", node: str = "", key: str = "") -> None:
        """One more of `what`, a field of Sums."""
        sums = self.at(model, node, key)
        setattr(sums, what, getattr(sums, what) + 1)

    def ended(self, model: str, node: str, key: str, uses: Uses, *, failed: bool = False, left: bool = False) -> None:
        """Requests on a backend have ended, each of them so."""
        sums = self.at(model, node, key)
        if failed:
            sums.errors += uses.requests
        if left:
            sums.left += uses.requests
        sums.count(uses)

    def _period(self, kind: Kind, name: str, step: int) -> Period:
        periods = self._periods[kind]
        period = periods.get(name)
        if period is None:
            if len(periods) >= NAMES_MAX:
                name = OTHER
            period = periods.setdefault(name, Period(step))
        return period
