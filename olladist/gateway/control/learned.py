"""What is learned of the nodes from their listings and from the requests that run there, beyond what the inventory says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from olladist.gateway.control.roster import Seen
from olladist.gateway.lease import NO_USAGE, Usage
from olladist.ollama.architectures import has_one_slot
from olladist.scheduling.memory import Memory
from olladist.scheduling.parallel import Parallel, hidden_wait, is_late
from olladist.scheduling.residents import Resident, Residents
from olladist.scheduling.trust import Trust

# A gateway that has just started does not know what its predecessor has left behind on the nodes, nor what workers have placed alone.
SETTLES = 30.0
_OVER = frozenset({"served", "retryable"})


class End(NamedTuple):
    """How a request ended; as in gateway.lease.Done."""

    usage: Usage = NO_USAGE
    outcome: str = "left"
    first_byte: float = -1.0
    duration: float = -1.0


@dataclass(slots=True)
class Node:
    """Of one node. `one_slot` are the models that get no more there; `lies` the final chunks that could not be true."""

    residents: Residents = field(default_factory=Residents)
    trust: Trust = field(default_factory=Trust)
    parallel: Parallel = field(default_factory=Parallel)
    memory: Memory = field(default_factory=Memory)
    one_slot: frozenset[str] = frozenset()
    lies: int = 0
    squeezed: tuple[frozenset[str], frozenset[str]] | None = None  # what was there before some had to go, and for whom


class _Running(NamedTuple):
    """The `beside`th of those that ran at once, itself included. `loads`: its model had to be loaded."""

    number: int
    model: str
    beside: int
    loads: bool


class Learned:
    """Of all nodes. Models are those of scheduling.demand.weights: options make no difference to memory."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.nodes: dict[int, Node] = {}
        self._now = now
        self._settled = now() + SETTLES
        self._running: dict[int, _Running] = {}

    def node(self, number: int) -> Node:
        node = self.nodes.get(number)
        if node is None:
            node = self.nodes[number] = Node()
        return node

    def settle(self) -> None:
        """Requests are counted from now on: what runs and ran before may be ours."""
        self._settled = self._now() + SETTLES
        for node in self.nodes.values():
            node.residents.forget()

    def holds(self, number: int, seen: Seen, identity: Callable[[str], str]) -> None:
        """What it has on disk, and what the names are taken for; others than before."""
        node = self.node(number)
        node.one_slot = frozenset(identity(row.key) for row in seen.tags if has_one_slot(row.fields))
        node.residents.forget()

    def begins(self, ticket: int, number: int, model: str, beside: int, *, loads: bool) -> None:
        """A request is sent to a node."""
        self._running[ticket] = _Running(number, model, beside, loads)
        self.node(number).residents.begins(model)

    def ends(self, ticket: int, end: End, slots: int, *, believable: bool) -> None:
        """`slots` are those that the node says it has; what it says of the request is `believable` or not."""
        running = self._running.pop(ticket, None)
        node = self.nodes.get(running.number) if running else None
        if running is None or node is None:
            return
        self._judge(running, node, end, slots, believable=believable)
        node.residents.ends(running.model, self._now(), lingers=end.outcome not in _OVER)

    def follows(self, ticket: int, end: End, slots: int, beside: int, *, believable: bool) -> None:
        """One has ended in a slot in which others follow it; it ran as the `beside`th, as far as is known."""
        running = self._running.get(ticket)
        node = self.nodes.get(running.number) if running else None
        if running is None or node is None:
            return
        self._running[ticket] = running = running._replace(beside=beside, loads=False)
        self._judge(running, node, end, slots, believable=believable)

    def _judge(self, running: _Running, node: Node, end: End, slots: int, *, believable: bool) -> None:
        """What the time that it took says of the node."""
        now, usage = self._now(), end.usage
        if not believable:
            node.lies += 1
        elif end.outcome == "served" and usage.output > 0 and not running.loads:
            waited = hidden_wait(end.first_byte, end.duration, (usage.load, usage.prompt, usage.output))
            late = is_late(waited, max(usage.prompt, 0.0) + usage.output)
            if running.beside > 1 and node.trust.slots(slots, now) == slots:
                node.parallel.answered(running.model, running.beside, late=late, now=now)
            elif running.beside == 1 and now >= self._settled and not node.residents.lingers(now):
                node.trust.saw(int(node.parallel.ran_alone(running.model, late=late)), now)

    def listed(
        self,
        number: int,
        rows: Mapping[str, Resident],
        clock: float | None,
        models_max: int,
        size: Callable[[str], int],
    ) -> None:
        """What the node says is in its memory; `clock` is its own."""
        node, now = self.node(number), self._now()
        before = frozenset(node.residents.rows).difference(node.residents.unloaded)
        changes = node.residents.listed(rows, now, clock)
        node.memory.seen(rows, now)
        if now >= self._settled:
            node.trust.saw(changes.foreign, now)
        if changes.gone and len(before) < models_max:
            node.squeezed = before, changes.ours | changes.came
        if node.squeezed is not None:
            before, wanted = node.squeezed
            if came := wanted.intersection(rows):
                node.memory.overflowed(before, min(came), size, now)
            if came or not wanted.intersection(node.residents.running):
                node.squeezed = None

    def away(self, number: int) -> None:
        """Whatever is listed when it comes back was not there before."""
        node = self.node(number)
        node.residents.forget()
        node.squeezed = None

    def slots(self, number: int, slots: int) -> int:
        """Of those that a node says it has, the ones that are counted on."""
        node = self.nodes.get(number)
        return node.trust.slots(slots, self._now()) if node else slots

    def ours(self, number: int, slots: int) -> float:
        """Which part of those is ours, for where there is one slot none can be taken from it."""
        node = self.nodes.get(number)
        return node.trust.ours(slots, self._now()) if node else 1.0

    def fewer(self, number: int, slots: int) -> dict[str, int]:
        """The models that get fewer there."""
        node = self.nodes.get(number)
        if node is None:
            return {}
        return {**node.parallel.limits(slots, self._now()), **(dict.fromkeys(node.one_slot, 1) if slots > 1 else {})}

    def is_doubted(self, number: int) -> bool:
        """Whether time alone may change what is counted on."""
        node = self.nodes.get(number)
        return node is not None and (node.trust.share > 0 or node.parallel.doubts > 0)

    def forget(self, number: int) -> None:
        """The node is there no more."""
        self.nodes.pop(number, None)
