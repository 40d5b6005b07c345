"""Requests that wait for a slot: `scheduling.adaptive` with the roster's nodes for machines and workers' Asks for requests.

What the roster learns and what workers say are its events; what it decides are grants, and models to be unloaded first.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from olladist.gateway.control.answers import Row
from olladist.gateway.control.backends import Backend
from olladist.gateway.control.identities import Identities
from olladist.gateway.control.learned import End, Learned
from olladist.gateway.control.ledger import Lease
from olladist.gateway.control.roster import Change, Roster, Seen
from olladist.gateway.control.uses import is_believable
from olladist.gateway.lease import NO_USAGE, Ask, Usage, Use
from olladist.ollama.env import models_max
from olladist.ollama.names import parse_name
from olladist.scheduling import explain
from olladist.scheduling.adaptive import Adaptive
from olladist.scheduling.decisions import Decision, Preload, Unload
from olladist.scheduling.demand import weights
from olladist.scheduling.estimate import expected_wait
from olladist.scheduling.health import State
from olladist.scheduling.line import Waiting
from olladist.scheduling.machines import Machine
from olladist.scheduling.residents import Resident

# What a request is thought to cost before it has run: the mean of an ordinary mix.
TOKENS = 700.0
# A flood of small requests teaches no more about a node's speed than a sample of them.
LESSON_SECONDS = 0.02
# Ids of a worker's Asks are below this (they count from 1; at 10 000 a second that is 13 years).
_IDS = 2**42
_NOBODY: frozenset[int] = frozenset()

# How waiting ends: with a slot; the client has left, or its deadline has passed; the worker is gone; nobody can serve it any more, or
# it is to be placed in another way.
ENDS = ("granted", "left", "late", "gone", "given_back")


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


class Preloading(NamedTuple):
    """A model that a node is to load for requests to come, when it has let go of those in `unload`; names as the node knows them."""

    ticket: int
    node: int
    model: str
    options: str
    unload: tuple[str, ...]


class Lane(NamedTuple):
    """What shares runners: who waits for it, and who serves it. `names` are normalised ones, `oldest` and `wait` seconds.

    `slots` are those of the nodes that have it in memory or load it. `wait` is how long a request that came now would wait, None
    where that is not known.
    """

    names: tuple[str, ...]
    options: str
    waiting: int
    oldest: float
    running: int
    slots: int
    wait: float | None


class _Group(NamedTuple):
    """What decides whether a request may still be served: all that have this in common wait in vain together."""

    key: str
    options: str
    identity: str
    tried: frozenset[int]


@dataclass(slots=True)
class _Queued:
    worker: int
    ask: Ask
    group: _Group
    position: int = 0


class Queue:
    """All that waits, and all that runs where slots are counted.

    `granted` is called for each request that gets its slot, in the order in which they shall be sent; `stranded` for one that waits for
    nodes of which none can be reached any more. `preload` is called for each load for requests to come, and owes a call of `preloaded`.
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
        self._taught: dict[int, float] = {}  # by node: when a Used was last learned from
        self._groups: dict[_Group, dict[int, None]] = {}  # tickets, in the order in which they came
        self._of_key: Counter[str] = Counter()
        self._listed: dict[int, Mapping[str, str]] = {}  # what the nodes have on disk, as `_identities` knows it
        self._identities = Identities()
        self._same: Mapping[str, str] = {}  # digests that stand for the same, although they differ
        self._nameless: dict[str, frozenset[int]] = {}  # by name: see _without; empty when it may be others
        self._loading: set[int] = set()  # tickets whose nodes load the model for them
        self._counts = True
        self.preload: Callable[[Preloading], None] | None = None
        self.preloads = Counter(dict.fromkeys(("loaded", "failed"), 0))
        self.learned = Learned(now)
        self.ends = Counter(dict.fromkeys(ENDS, 0))  # of waiting
        roster.listeners.append(self._changed)
        roster.told.append(self._told)

    def __len__(self) -> int:
        return len(self._queued)

    def of_key(self, name: str) -> int:
        """How many requests of an API key wait."""
        return self._of_key[name]

    def arrive(self, worker: int, ask: Ask, key: str, avoid: Collection[int], priority: int = 0) -> None:
        """`avoid` are nodes that must not get it; there must be another one that is well and has the model."""
        now = self._now()
        ticket = _ticket(worker, ask.id)
        waiting = self._waiting(ticket, ask, key, avoid, priority, now)
        group = _Group(key, ask.options, waiting.model, waiting.tried)
        queued = self._queued[ticket] = _Queued(worker, ask, group)
        self._groups.setdefault(group, {})[ticket] = None
        self._of_key[ask.key] += 1
        self._carry_out(self._adaptive.arrive(waiting, now))
        queued.position = self._adaptive.queued(group.identity)

    def take(self, worker: int, ask: Ask, key: str) -> int | None:
        """The node with a free slot for one that may go to any, where nobody waits for the model; None: it has to `arrive`."""
        if self._identities.has_aliases(key):
            return None
        ticket = _ticket(worker, ask.id)
        node = self._adaptive.take(ticket, self.identity(key, ask.options), ask.affinity, self._now())
        if node is not None:
            self.ends["granted"] += 1
            self._sent(ticket)
        return node

    def foresee(
        self, ask: Ask, key: str, avoid: Collection[int], priority: int, nodes: Iterable[int]
    ) -> explain.Explained:
        """What would become of it if it arrived now, and what each of these nodes is to it."""
        now = self._now()
        return explain.explain(self._adaptive, self._waiting(-1, ask, key, avoid, priority, now), nodes, now)

    def _waiting(self, ticket: int, ask: Ask, key: str, avoid: Collection[int], priority: int, now: float) -> Waiting:
        return Waiting(
            ticket,
            self.identity(key, ask.options),
            now,
            key=ask.key,
            priority=priority,
            tokens=TOKENS,
            near=ask.affinity,
            tried=self._without(key).union(ask.tried, avoid),
            deadline=now + ask.deadline if ask.deadline > 0 else float("inf"),
        )

    def lanes(self) -> Iterator[Lane]:
        """All that waits, runs or is in memory."""
        now, known = self._now(), self._adaptive.known
        for identity, demand in known.demands.items():
            if not (len(demand.line) or demand.serving or demand.coming):
                continue
            machines = [known.machines[number] for number in (*demand.serving, *demand.coming)]
            runners = [machine.runners[identity] for machine in machines if identity in machine.runners]
            oldest = demand.line.oldest()
            contents, _, options = identity.partition("|")
            yield Lane(
                self._identities.names(contents),
                options,
                len(demand.line),
                now - oldest.arrived if oldest is not None else 0.0,
                sum(len(runner.running) for runner in runners),
                sum(runner.slots for runner in runners),
                expected_wait(known, identity, now),
            )

    def leave(self, worker: int, number: int) -> None:
        """The client has gone while its request waited, or the worker."""
        ticket = _ticket(worker, number)
        if ticket in self._queued:
            self._take(ticket, "left")
            self._carry_out(self._adaptive.leave(ticket, self._now()))

    def runs(self, worker: int, number: int, node: int, key: str, options: str = "") -> None:
        """A request that runs there already, and was not granted here."""
        if not self._counts and not self._queued:
            return
        ticket = _ticket(worker, number)
        self._adaptive.found(ticket, node, self.identity(key, options), self._now())
        self._sent(ticket)

    def count(self, held: Iterable[tuple[int, int, Lease]] | None) -> None:
        """From now on all that runs is counted, beginning with `held`; None: only what was granted here, for nothing waits any more."""
        if held is not None:
            self.learned.settle()
        self._counts = held is not None
        for worker, number, lease in held or ():
            if self._adaptive.bound_model(_ticket(worker, number)) is None:
                self.runs(worker, number, lease.backend, lease.model)

    def started(self, worker: int, number: int) -> None:
        """The first byte of its answer has come."""
        self._carry_out(self._adaptive.started(_ticket(worker, number), self._now()))

    def ended(self, worker: int, number: int, node: int, end: End) -> None:
        """It has a slot no more. What its final chunk says teaches how fast the node is, where it can be true."""
        ticket = _ticket(worker, number)
        model = self._adaptive.bound_model(ticket)
        if model is None:
            return  # on a backend whose slots nobody counts
        believable = is_believable(end.usage, end.duration)
        usage = end.usage if believable else NO_USAGE
        if ticket in self._loading:
            self._loading.discard(ticket)
            self._adaptive.speeds.loaded(node, self._adaptive.size(model), usage.load)
        self._learn_speed(node, model, usage)
        backend = self._roster.nodes.get(node)
        self.learned.ends(ticket, end, backend.slots if backend else 1, believable=believable)
        self._carry_out(self._adaptive.finished(ticket, self._now()))
        if self.learned.is_doubted(node):
            self._fit(node)

    def used(self, worker: int, number: int, node: int, uses: Sequence[Use]) -> bool:
        """More requests were served in its slot, which it still has; whether that is as good a place as any that is free."""
        ticket, now = _ticket(worker, number), self._now()
        model = self._adaptive.again(ticket, [use.near for use in uses], now)
        if model is not None and now - self._taught.get(node, 0.0) >= LESSON_SECONDS:
            self._taught[node] = now
            self._teach(ticket, node, model, uses[-1])
        return self._adaptive.is_well_placed(ticket)

    def preloaded(self, load: Preloading, *, loaded: bool) -> None:
        """The load for requests to come has ended. How long it took teaches nothing: Ollama does not say, and may have had the model already."""
        self.preloads["loaded" if loaded else "failed"] += 1
        self.learned.ends(load.ticket, End(outcome="served" if loaded else "died"), 1, believable=True)
        if loaded:
            self._carry_out(self._adaptive.started(load.ticket, self._now()))
        self._carry_out(self._adaptive.finished(load.ticket, self._now()))

    def _teach(self, ticket: int, node: int, model: str, use: Use) -> None:
        """What one of those says of its node; those that run beside it now are taken for those that did then."""
        believable = is_believable(use.usage, use.duration)
        if believable:
            self._learn_speed(node, model, use.usage)
        end = End(use.usage if believable else NO_USAGE, "served", use.first_byte, use.duration)
        backend, beside = self._roster.nodes.get(node), len(self._adaptive.machines[node].runners[model].running)
        self.learned.follows(ticket, end, backend.slots if backend else 1, beside, believable=believable)
        if self.learned.is_doubted(node):
            self._fit(node)

    def _learn_speed(self, node: int, model: str, usage: Usage) -> None:
        prompt, output = (usage.prompt_tokens, usage.prompt), (usage.output_tokens, usage.output)
        self._adaptive.answered(node, model, prompt, output)

    def gone(self, worker: int) -> None:
        """The worker has left, and with it those who waited there."""
        for ticket in [ticket for ticket, queued in self._queued.items() if queued.worker == worker]:
            self._take(ticket, "gone")
            self._carry_out(self._adaptive.leave(ticket, self._now()))

    def tick(self) -> list[tuple[int, Ask, int]]:
        """About once a second. Returns those whose clients will not wait any longer, with their workers and the places that they had."""
        now = self._now()
        late = [self._take(waiting.ticket, "late") for waiting in self._adaptive.expire(now)]
        for number in filter(self.learned.is_doubted, self.learned.nodes):
            self._fit(number)
        self._carry_out(self._adaptive.tick(now))
        return [(queued.worker, queued.ask, queued.position) for queued in late]

    def identity(self, key: str, options: str = "") -> str:
        """What shares a runner: contents, under whichever name, with the same options; the name where nodes mean different contents by it."""
        contents = self._identities.of(key)
        return f"{contents}|{options}" if options else contents

    def title(self, identity: str) -> str:
        """What people call it: its first name, with the options that make it another; a digest that nobody has a name for in short."""
        contents, _, options = identity.partition("|")
        names = self._identities.names(contents)
        name = str(parse_name(names[0])) if names else contents[:12]
        return f"{name} with {options}" if options else name

    def loaded(self, key: str, options: str = "") -> list[int]:
        """The nodes that have the model in memory, or are loading it, and may get more."""
        identity = self.identity(key, options)
        return [number for number, each in self._adaptive.machines.items() if each.up and identity in each.runners]

    def give_back(self) -> None:
        """All that wait, in the order in which they came: for how they are placed has changed."""
        self._strand(tuple(self._queued))

    def resize(self) -> None:
        """Slots and room of nodes may be others in an inventory that was read again."""
        for number in self._roster.nodes:
            self._fit(number)

    def same(self, contents: Mapping[str, str]) -> None:
        """From now on these digests, and no others, stand for what is said here: they share runners."""
        self._same = contents
        self._hold({number: self._roster.seen[number] for number in self._listed})

    def slots(self, number: int) -> int:
        """Requests for one model that a node is given at once, as things are."""
        machine = self._adaptive.machines.get(number)
        return machine.slots if machine else 0

    def fewer(self) -> Iterator[tuple[int, str, int]]:
        """Models, by name, that get fewer slots than that on some node: (node, name, slots)."""
        for number, machine in self._adaptive.machines.items():
            for model, slots in machine.fewer.items():
                for key in self._identities.names(model):
                    yield number, key, min(slots, machine.slots)

    def unloads(self, number: int, key: str) -> None:
        """Somebody has the gateway ask a node to let go of a model."""
        self.learned.node(number).residents.unloads(self.identity(key), self._now())

    # The roster's changes.

    def _changed(self, change: Change) -> None:
        number = change.backend.id
        if change.after is None or number not in self._roster.nodes:
            if number in self._adaptive.machines:
                self._adaptive.remove(number)
                self._taught.pop(number, None)
                self._hold({number: Seen()})
                self.learned.forget(number)
            return
        if number not in self._adaptive.machines:
            self._adaptive.add(replace(machine_of(change.backend), memory=self.learned.node(number).memory))
        self._learn(change.backend, change.before, change.after)

    def _learn(self, backend: Backend, before: Seen | None, after: Seen) -> None:
        if self._contents(after) != self._listed.get(backend.id):
            self._hold({backend.id: after})
        # What was listed may be the same, and what we have done since is not in it.
        read = before is None or before.loaded_read != after.loaded_read
        if read or before is None or before.tags is not after.tags:
            loaded = {self._content(row, after): row for row in after.loaded}
            if read and self._counts:
                self._look_at(backend, loaded, after.clock)
            self._carry_out(self._adaptive.seen_loaded(backend.id, loaded, self._now()))
        self._set_up(backend, after)

    def _contents(self, seen: Seen) -> Mapping[str, str]:
        """What a node means by its names."""
        if not self._same:
            return seen.digests
        return {key: self._same.get(digest, digest) for key, digest in seen.digests.items()}

    def _content(self, row: Row, seen: Seen) -> str:
        """What a row of /api/ps is to the placement: its name there may be any that has the same contents, or one that is gone."""
        if seen.digests.get(row.key) == row.digest:
            return self.identity(row.key)
        same = (self.identity(key) for key, digest in seen.digests.items() if digest == row.digest)
        return min(same, default=self.identity(row.key))

    def _look_at(self, backend: Backend, loaded: Mapping[str, Row], clock: float | None) -> None:
        rows = {
            model: Resident(row.time, int(row.fields.get("size", 0)), int(row.fields.get("size_vram", 0)))
            for model, row in loaded.items()
        }
        machine = self._adaptive.machines[backend.id]
        self.learned.listed(backend.id, rows, clock, machine.models_max, self._adaptive.size)
        self._fit(backend.id)

    def _fit(self, number: int) -> None:
        """The slots that are counted on, as they are known now."""
        backend, machine = self._roster.nodes.get(number), self._adaptive.machines.get(number)
        if backend is None or machine is None:
            return
        said = machine_of(backend)
        slots, fewer = self.learned.slots(number, said.slots), self.learned.fewer(number, said.slots)
        self._adaptive.share(number, self.learned.ours(number, said.slots))
        if (machine.slots, machine.models_max, machine.fewer) != (slots, said.models_max, fewer):
            self._carry_out(self._adaptive.resize(number, slots, said.models_max, self._now(), fewer))

    def _hold(self, changed: Mapping[int, Seen]) -> None:
        """What some nodes hold may change what its names mean for all: contents, or where they differ the name."""
        renamed: set[str] = set()
        for number, seen in changed.items():
            contents = self._contents(seen)
            renamed |= self._identities.replace(self._listed.pop(number, {}), contents)
            if number in self._adaptive.machines:
                self._listed[number] = contents
        self._nameless.clear()
        affected = {number for key in renamed for number in self._roster.holders(key)}.union(changed)
        affected &= self._adaptive.machines.keys()
        for number in affected:
            seen = self._roster.seen[number]
            holdings = {self.identity(row.key): int(row.fields.get("size", 0)) for row in seen.tags}
            self._adaptive.hold(number, holdings)
            self.learned.holds(number, seen, self.identity)
        self._look_after_stranded()
        for number in affected:
            self._fit(number)

    def _told(self) -> None:
        for number, backend in self._roster.nodes.items():
            if number in self._adaptive.machines:
                self._set_up(backend, self._roster.seen[number])

    def _set_up(self, backend: Backend, seen: Seen) -> None:
        up = seen.state is not State.DOWN and backend.node not in self._roster.drained
        was = self._adaptive.machines[backend.id].up
        well = seen.state is State.UP
        if seen.state is State.DOWN:
            self.learned.away(backend.id)
        self._carry_out(self._adaptive.set_up(backend.id, up=up, well=well, now=self._now()))
        if was and not up:
            self._look_after_stranded()

    def _look_after_stranded(self) -> None:
        for group, tickets in tuple(self._groups.items()):
            if group.identity != self.identity(group.key, group.options) or not self._may_be_served(group):
                self._strand(tuple(tickets))

    def _strand(self, tickets: Iterable[int]) -> None:
        """One that is placed anew may wait again, and what is done then may give a slot to another of them."""
        for ticket in tickets:
            if ticket in self._queued:
                queued = self._take(ticket, "given_back")
                self._adaptive.leave(ticket, self._now())
                self._stranded(queued.worker, queued.ask)

    def _may_be_served(self, group: _Group) -> bool:
        """Whether any node that is up has what these ask for, and may still get it."""
        machines = self._adaptive.machines
        return any(
            number not in group.tried and machines[number].up for number in self._adaptive.holders(group.identity)
        )

    def _without(self, key: str) -> frozenset[int]:
        """The nodes that have the same contents under another name alone: they would not know what is asked for."""
        if not self._identities.has_aliases(key):
            return _NOBODY
        if key not in self._nameless:
            holders = frozenset(self._adaptive.holders(self.identity(key)))
            self._nameless[key] = holders.difference(self._roster.holders(key))
        return self._nameless[key]

    def _take(self, ticket: int, why: str) -> _Queued:
        """It waits no more."""
        self.ends[why] += 1
        queued = self._queued.pop(ticket)
        tickets = self._groups[queued.group]
        del tickets[ticket]
        if not tickets:
            del self._groups[queued.group]
        self._of_key[queued.ask.key] -= 1
        if not self._of_key[queued.ask.key]:
            del self._of_key[queued.ask.key]
        return queued

    # Decisions.

    def _carry_out(self, decisions: Iterable[Decision]) -> None:
        unload: dict[int, list[str]] = {}
        for decision in decisions:
            if isinstance(decision, Unload):
                unload.setdefault(decision.machine, []).append(self._name(decision.machine, decision.model))
                self.learned.node(decision.machine).residents.unloads(weights(decision.model), self._now())
                continue
            names = tuple(unload.pop(decision.machine, ()))
            if isinstance(decision, Preload):
                self._preload(decision, names)
                continue
            queued = self._take(decision.ticket, "granted")
            loads = self._adaptive.is_loading(decision.ticket)
            if loads:
                self._loading.add(decision.ticket)
            self._sent(decision.ticket)
            self._granted(Granted(queued.worker, queued.ask, decision.machine, names, loads, queued.position))

    def _preload(self, decision: Preload, unload: tuple[str, ...]) -> None:
        model, _, options = decision.model.partition("|")
        load = Preloading(decision.ticket, decision.machine, self._name(decision.machine, model), options, unload)
        self._sent(decision.ticket)
        if self.preload is None:
            self.preloaded(load, loaded=False)
        else:
            self.preload(load)

    def _sent(self, ticket: int) -> None:
        """A node works on it from now on."""
        bound = self._adaptive.bound(ticket)
        if bound is not None:
            number, model = bound
            runner = self._adaptive.machines[number].runners[model]
            self.learned.begins(ticket, number, weights(model), len(runner.running), loads=runner.loading)

    def _name(self, number: int, model: str) -> str:
        """A name by which the node knows what is to be unloaded."""
        seen = self._roster.seen[number]
        rows = (*seen.loaded, *seen.tags)
        return next((str(row.fields["name"]) for row in rows if self._content(row, seen) == weights(model)), "")


def machine_of(backend: Backend) -> Machine:
    instance = next((each for each in backend.host.instances if each.port == backend.port), None)
    env = {**backend.host.env, **(instance.env if instance else {})}
    gpus = len(instance.gpus) if instance is not None and instance.gpus else 1
    return Machine(backend.id, slots=backend.slots, models_max=models_max(env, gpus))


def _ticket(worker: int, number: int) -> int:
    return worker * _IDS + number
