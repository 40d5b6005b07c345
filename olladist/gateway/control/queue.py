"""Requests that wait for a slot: `scheduling.adaptive` with the roster's nodes for machines and workers' Asks for requests.

What the roster learns and what workers say are its events; what it decides are grants, and models to be unloaded first.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from olladist.gateway.control.answers import Row
from olladist.gateway.control.backends import Backend
from olladist.gateway.control.roster import Change, Roster, Seen
from olladist.gateway.lease import Ask, Usage
from olladist.ollama.env import models_max
from olladist.scheduling.adaptive import Adaptive, Bind, Decision
from olladist.scheduling.demand import weights
from olladist.scheduling.health import State
from olladist.scheduling.line import Waiting
from olladist.scheduling.machines import Machine

# What a request is thought to cost before it has run: the mean of an ordinary mix.
TOKENS = 700.0
# Ids of a worker's Asks are below this (they count from 1; at 10 000 a second that is 13 years).
_IDS = 2**42


class Granted(NamedTuple):
    """`unload` are names of models that the node has to let go of first. `loads`: the model is not in its memory.

    `position` is the place among those who waited for the model that it had when it came; 0: it did not wait.
    """

    worker: int
    ask: Ask
    node: int
    unload: tuple[str, ...]
    loads: bool
    position: int


@dataclass(slots=True)
class _Queued:
    worker: int
    ask: Ask
    key: str
    identity: str
    position: int = 0


class Queue:
    """All that waits, and all that runs where slots are counted.

    `granted` is called for each request that gets its slot, in the order in which they shall be sent; `stranded` for one that waits for
    nodes of which none can be reached any more.
    """

    def __init__(
        self,
        roster: Roster,
        now: Callable[[], float],
        granted: Callable[[Granted], None],
        stranded: Callable[[int, Ask], None],
    ) -> None:
        self._roster = roster
        self._now = now
        self._granted = granted
        self._stranded = stranded
        self._adaptive = Adaptive()
        self._queued: dict[int, _Queued] = {}
        self._loading: set[int] = set()  # tickets whose nodes load the model for them
        roster.listeners.append(self._changed)
        roster.told.append(self._told)

    def __len__(self) -> int:
        return len(self._queued)

    def of_key(self, name: str) -> int:
        """How many requests of an API key wait."""
        return sum(1 for queued in self._queued.values() if queued.ask.key == name)

    def arrive(self, worker: int, ask: Ask, key: str, avoid: Collection[int], priority: int = 0) -> None:
        """`avoid` are nodes that must not get it; there must be another one that is well and has the model."""
        now = self._now()
        ticket = _ticket(worker, ask.id)
        identity = self.identity(key, ask.options)
        queued = self._queued[ticket] = _Queued(worker, ask, key, identity)
        deadline = now + ask.deadline if ask.deadline > 0 else float("inf")
        # The same contents under another name alone: such a node would not know what is asked for.
        nameless = set(self._adaptive.holders(identity)).difference(self._roster.holders(key))
        waiting = Waiting(
            ticket,
            identity,
            now,
            key=ask.key,
            priority=priority,
            tokens=TOKENS,
            near=ask.affinity,
            tried=frozenset({*ask.tried, *avoid, *nameless}),
            deadline=deadline,
        )
        self._carry_out(self._adaptive.arrive(waiting, now))
        queued.position = self._adaptive.queued(identity)

    def leave(self, worker: int, number: int) -> None:
        """The client has gone while its request waited, or the worker."""
        ticket = _ticket(worker, number)
        if self._queued.pop(ticket, None) is not None:
            self._carry_out(self._adaptive.leave(ticket, self._now()))

    def runs(self, worker: int, number: int, node: int, key: str, options: str = "") -> None:
        """A request that runs there already, and was not granted here."""
        self._adaptive.found(_ticket(worker, number), node, self.identity(key, options), self._now())

    def started(self, worker: int, number: int) -> None:
        """The first byte of its answer has come."""
        self._carry_out(self._adaptive.started(_ticket(worker, number), self._now()))

    def ended(self, worker: int, number: int, node: int, usage: Usage) -> None:
        """It has a slot no more. What its final chunk says teaches how fast the node is."""
        ticket = _ticket(worker, number)
        model = self._adaptive.bound_model(ticket)
        if model is None:
            return  # on a backend whose slots nobody counts
        size = self._adaptive.size(model)
        speeds = self._adaptive.speeds
        if ticket in self._loading:
            self._loading.discard(ticket)
            speeds.loaded(node, size, usage.load)
        speeds.answered(node, model, size, (usage.prompt_tokens, usage.prompt), (usage.output_tokens, usage.output))
        self._carry_out(self._adaptive.finished(ticket, self._now()))

    def gone(self, worker: int) -> None:
        """The worker has left, and with it those who waited there."""
        for ticket in [ticket for ticket, queued in self._queued.items() if queued.worker == worker]:
            del self._queued[ticket]
            self._carry_out(self._adaptive.leave(ticket, self._now()))

    def tick(self) -> list[tuple[int, Ask, int]]:
        """About once a second. Returns those whose clients will not wait any longer, with their workers and the places that they had."""
        now = self._now()
        late = [self._queued.pop(waiting.ticket) for waiting in self._adaptive.expire(now)]
        self._carry_out(self._adaptive.tick(now))
        return [(queued.worker, queued.ask, queued.position) for queued in late]

    def identity(self, key: str, options: str = "") -> str:
        """What shares a runner: contents, under whichever name, with the same options; the name where nodes mean different contents by it."""
        digests = self._roster.digests(key)
        contents = next(iter(digests)) if len(digests) == 1 else f"name:{key}"
        return f"{contents}|{options}" if options else contents

    def resize(self) -> None:
        """Slots and room of nodes may be others in an inventory that was read again."""
        for number, backend in self._roster.nodes.items():
            if number in self._adaptive.machines:
                new = machine_of(backend)
                self._carry_out(self._adaptive.resize(number, new.slots, new.models_max, self._now()))

    # The roster's changes.

    def _changed(self, change: Change) -> None:
        number = change.backend.id
        if change.after is None or number not in self._roster.nodes:
            if number in self._adaptive.machines:
                self._adaptive.remove(number)
                self._look_after_stranded()
            return
        if number not in self._adaptive.machines:
            self._adaptive.add(machine_of(change.backend))
        self._learn(change.backend, change.before, change.after)

    def _learn(self, backend: Backend, before: Seen | None, after: Seen) -> None:
        if before is None or before.tags is not after.tags:
            self._hold(backend, before.tags if before else (), after.tags)
        if before is None or before.loaded is not after.loaded or before.tags is not after.tags:
            names = {row.digest for row in after.tags}
            loaded = [row.digest if row.digest in names else self.identity(row.key) for row in after.loaded]
            self._carry_out(self._adaptive.seen_loaded(backend.id, loaded, self._now()))
        self._set_up(backend, after)

    def _hold(self, backend: Backend, before: Iterable[Row], after: Iterable[Row]) -> None:
        """What one node holds may change what its names mean for all: contents, or where they differ the name."""
        changed = {(row.key, row.digest) for row in before} ^ {(row.key, row.digest) for row in after}
        others = {number for key, _ in changed for number in self._roster.holders(key)} - {backend.id}
        self._adaptive.hold(backend.id, self._holdings(after))
        for number in others & self._adaptive.machines.keys():
            self._adaptive.hold(number, self._holdings(self._roster.seen[number].tags))
        if changed:
            self._look_after_stranded()

    def _told(self) -> None:
        for number, backend in self._roster.nodes.items():
            if number in self._adaptive.machines:
                self._set_up(backend, self._roster.seen[number])

    def _set_up(self, backend: Backend, seen: Seen) -> None:
        up = seen.state is not State.DOWN and backend.node not in self._roster.drained
        was = self._adaptive.machines[backend.id].up
        well = seen.state is State.UP
        self._carry_out(self._adaptive.set_up(backend.id, up=up, well=well, now=self._now()))
        if was and not up:
            self._look_after_stranded()

    def _look_after_stranded(self) -> None:
        for ticket, queued in tuple(self._queued.items()):
            if queued.identity != self.identity(queued.key, queued.ask.options) or not self._adaptive.may_be_served(
                ticket
            ):
                del self._queued[ticket]
                self._adaptive.leave(ticket, self._now())
                self._stranded(queued.worker, queued.ask)

    def _holdings(self, tags: Iterable[Row]) -> dict[str, int]:
        return {self.identity(row.key): int(row.fields.get("size", 0)) for row in tags}

    # Decisions.

    def _carry_out(self, decisions: Iterable[Decision]) -> None:
        unload: dict[int, list[str]] = {}
        for decision in decisions:
            if isinstance(decision, Bind):
                queued = self._queued.pop(decision.ticket)
                loads = self._adaptive.is_loading(decision.ticket)
                if loads:
                    self._loading.add(decision.ticket)
                names = tuple(unload.pop(decision.machine, ()))
                self._granted(Granted(queued.worker, queued.ask, decision.machine, names, loads, queued.position))
            else:
                unload.setdefault(decision.machine, []).append(self._name(decision.machine, decision.model))

    def _name(self, number: int, model: str) -> str:
        """A name by which the node knows what is to be unloaded."""
        seen = self._roster.seen[number]
        rows = (*seen.loaded, *seen.tags)
        return next((str(row.fields["name"]) for row in rows if weights(model) in {row.digest, f"name:{row.key}"}), "")


def machine_of(backend: Backend) -> Machine:
    instance = next((each for each in backend.host.instances if each.port == backend.port), None)
    env = {**backend.host.env, **(instance.env if instance else {})}
    gpus = len(instance.gpus) if instance is not None and instance.gpus else 1
    return Machine(backend.id, slots=backend.slots, models_max=models_max(env, gpus))


def _ticket(worker: int, number: int) -> int:
    return worker * _IDS + number
