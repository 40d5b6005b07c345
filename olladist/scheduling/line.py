"""Who waits for one model, and whose turn it is: priority classes, in each a deficit round robin over API keys, in tokens.

Deficit round robin (Shreedhar and Varghese, 1995): each key gets a quantum of tokens for each round, a request is served when
its key has saved enough for it. So a key that sends long prompts gets fewer of them through than one that sends short
ones, and one that sends a thousand requests at once delays nobody else's by more than a round. Within a key: first come, first served.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

# As large as an ordinary request, so that in most rounds each key gets one through.
QUANTUM = 1000.0
# A machine on which nobody has failed.
_NOWHERE = -1


class Waiting(NamedTuple):
    """A request that has no slot yet. `tokens` are what it is expected to cost, `arrived` and `deadline` are of the caller's clock.

    `tried` holds the machines that it may not go to, for it has failed there. `near` names the conversation it goes on with, 0 for none.
    """

    ticket: int
    model: str
    arrived: float
    key: str = ""
    priority: int = 0
    tokens: float = 1000.0
    near: int = 0
    tried: frozenset[int] = frozenset()
    deadline: float = float("inf")


# By ticket, first come first: whoever leaves is taken out from anywhere, and 10 000 may leave at once.
_Queue: TypeAlias = OrderedDict[int, Waiting]


@dataclass(slots=True)
class _Class:
    """One priority: the keys in their round, and what each has saved."""

    queues: dict[str, _Queue] = field(default_factory=dict)  # in the order of the round; none is empty
    saved: dict[str, float] = field(default_factory=dict)


class Line:
    """The requests for one model. `weights` of keys default to 1."""

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self._weights = weights or {}
        self._classes: dict[int, _Class] = {}
        self._places: dict[int, tuple[int, str]] = {}  # priority and key of each ticket

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Waiting]:
        for priority in sorted(self._classes, reverse=True):
            for queue in self._classes[priority].queues.values():
                yield from queue.values()

    def copied(self) -> "Line":
        line = Line(self._weights)
        line._places = dict(self._places)
        line._classes = {
            priority: _Class({key: queue.copy() for key, queue in group.queues.items()}, dict(group.saved))
            for priority, group in self._classes.items()
        }
        return line

    def push(self, waiting: Waiting) -> None:
        queues = self._classes.setdefault(waiting.priority, _Class()).queues
        queues.setdefault(waiting.key, OrderedDict())[waiting.ticket] = waiting
        self._places[waiting.ticket] = waiting.priority, waiting.key

    def oldest(self) -> Waiting | None:
        """The one that has waited longest, whoever's turn it is: the first of some key's queue."""
        heads = (_head(queue) for group in self._classes.values() for queue in group.queues.values())
        return min(heads, key=lambda waiting: waiting.arrived, default=None)

    def pop(self, machine: int) -> Waiting | None:
        """Whose turn it is on `machine`; None where nobody may go there."""
        for priority in sorted(self._classes, reverse=True):
            if chosen := self._pop(self._classes[priority], machine):
                if not self._classes[priority].queues:
                    del self._classes[priority]
                del self._places[chosen.ticket]
                return chosen
        return None

    def before(self, ticket: int) -> int:
        """How many have their turn before it, if nobody else comes or leaves."""
        line, count = self.copied(), 0
        while (waiting := line.pop(_NOWHERE)) is not None and waiting.ticket != ticket:
            count += 1
        return count

    def may_go(self, machine: int) -> bool:
        """Whether there is anybody who has not failed on `machine`."""
        return any(machine not in waiting.tried for waiting in self)

    def find(self, ticket: int) -> Waiting | None:
        priority, key = self._places.get(ticket, (0, ""))
        return self._classes[priority].queues[key][ticket] if ticket in self._places else None

    def remove(self, ticket: int) -> Waiting | None:
        """Takes out one that has left."""
        waiting = self.find(ticket)
        if waiting is not None:
            del self._places[ticket]
            _take(self._classes[waiting.priority], waiting.key, waiting)
            if not self._classes[waiting.priority].queues:
                del self._classes[waiting.priority]
        return waiting

    def _pop(self, group: _Class, machine: int) -> Waiting | None:
        eligible = {key: w for key, q in group.queues.items() if (w := _first(q, machine)) is not None}
        if not eligible:
            return None
        if len(eligible) == 1:
            (key,) = eligible
            group.saved.pop(key, None)  # alone: there is nobody to be fair to
            return _take(group, key, eligible[key])
        # How many whole rounds pass until somebody has saved enough: given at once, so that this takes no loop of rounds.
        short = {k: (w.tokens - group.saved.get(k, 0.0)) / (QUANTUM * self._weight(k)) for k, w in eligible.items()}
        rounds = max(0.0, min(short.values()))
        for key in eligible:
            group.saved[key] = group.saved.get(key, 0.0) + rounds * QUANTUM * self._weight(key)
        key = next(k for k in eligible if short[k] <= rounds)
        group.saved[key] -= eligible[key].tokens
        # To the end of the round, so that equal keys take turns.
        group.queues[key] = group.queues.pop(key)
        return _take(group, key, eligible[key])

    def _weight(self, key: str) -> float:
        return self._weights.get(key, 1.0)


def _head(queue: _Queue) -> Waiting:
    return next(iter(queue.values()))


def _first(queue: _Queue, machine: int) -> Waiting | None:
    return next((waiting for waiting in queue.values() if machine not in waiting.tried), None)


def _take(group: _Class, key: str, waiting: Waiting) -> Waiting:
    del group.queues[key][waiting.ticket]
    _tidy(group, key)
    return waiting


def _tidy(group: _Class, key: str) -> None:
    """A key that waits for nothing saves nothing (otherwise one that was idle for long could claim it all at once)."""
    if not group.queues[key]:
        del group.queues[key]
        group.saved.pop(key, None)
