"""What the status says of the queue: for each model who waits, who runs, and how long one more would wait."""

from collections.abc import Callable, Iterator
from typing import Annotated

import msgspec

from olladist.gateway.control.parts import Parts
from olladist.gateway.control.queue import Lane
from olladist.inventory.model import Strategy
from olladist.ollama.names import parse_name

Count = Annotated[int, msgspec.Meta(ge=0)]


class ModelQueue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shares runners: contents, by all the `names` that they have, with the same `options` of those that make a runner anew ("" for none).

    `waiting` for a slot, the first of them for `oldest_wait` seconds; `running`; `slots` of the nodes that have it in memory or load it.
    `estimated_wait`: seconds that a request would wait which came now; null where nothing is known to say it from.
    """

    names: tuple[str, ...]
    options: str
    waiting: Count
    oldest_wait: float
    running: Count
    slots: Count
    estimated_wait: float | None


class QueueStatus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`waiting` in all, of at most `waiting_max`; `oldest_wait` seconds the first of them. `models` are those that wait, run or are in memory."""

    waiting: Count
    waiting_max: Count
    oldest_wait: float
    models: tuple[ModelQueue, ...]


def queue(parts: Parts, may_use: Callable[[str], bool]) -> QueueStatus:
    """`may_use` says of a normalised name whether the caller may know of it; the sums are of what it knows."""
    models = tuple(each for lane in lanes(parts) if (each := _of(lane, may_use)) is not None)
    return QueueStatus(
        waiting=sum(each.waiting for each in models),
        waiting_max=parts.dispatcher.waiting_max,
        oldest_wait=max((each.oldest_wait for each in models), default=0.0),
        models=tuple(sorted(models, key=lambda each: (-each.waiting, each.names, each.options))),
    )


def lanes(parts: Parts) -> Iterator[Lane]:
    """Where requests do not wait in the gateway, what runs is all that is known."""
    dispatcher, roster = parts.dispatcher, parts.roster
    if dispatcher.strategy is Strategy.ADAPTIVE:
        yield from dispatcher.queue.lanes()
        return
    warm = {number: roster.seen[number].warm for number in roster.nodes}
    for key in {key for keys in warm.values() for key in keys} | dispatcher.ledger.models:
        running = {n: count for n, count in dispatcher.ledger.in_flight_model(key).items() if n in warm}
        nodes = [number for number in roster.nodes if key in warm[number] or number in running]
        slots = sum(roster.nodes[number].slots for number in nodes)
        yield Lane((key,), "", 0, 0.0, sum(running.values()), slots, None)


def _of(lane: Lane, may_use: Callable[[str], bool]) -> ModelQueue | None:
    names = tuple(str(parse_name(key)) for key in lane.names if may_use(key))
    if not names:
        return None
    return ModelQueue(
        names=names,
        options=lane.options,
        waiting=lane.waiting,
        oldest_wait=round(lane.oldest, 3),
        running=lane.running,
        slots=lane.slots,
        estimated_wait=None if lane.wait is None else round(lane.wait, 3),
    )
