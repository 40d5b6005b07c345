"""Late binding: requests wait here until a slot is theirs, and models are loaded where that shortens the waiting in sum.

A backend never gets more requests for a model than it has slots, so nothing waits where it cannot be seen or recalled.
A load that gains more than it harms (loads.py) is begun. While requests wait for a model its runners are not taken away, however much
another would gain: so queues are served out before a switch, and a switch is never taken back at once (which is what makes
least-connections load without end). The exception is age: who has waited longer than twenty loads take, or AGE_MAX, gets a
machine in any case, so that a hot model does not starve a cold one (a real Ollama lets it, for as long as it is hot).

Nothing here has a clock or does anything. Events go in with `now`, in seconds of any clock; decisions come out.
"""

from collections.abc import Collection, Iterable, Mapping
from itertools import islice

from olladist.scheduling.decisions import Bind, Decision, Preload, Unload
from olladist.scheduling.demand import Demand, Held, weights
from olladist.scheduling.known import SAMPLE, Known
from olladist.scheduling.line import Line, Waiting
from olladist.scheduling.loads import Plan, best, may_spread, spread
from olladist.scheduling.machines import Machine, Runner, Switch
from olladist.scheduling.owners import Owners

# What the victim's requests wait for it to come back is the time of its own load and what models have waited lately until theirs began:
# nothing in a fleet that is idle, much in one where every load takes a machine from somebody. A new value counts for so much.
BACK = 0.3
# So many models, and machines that hold one, are looked at for a decision; of more machines only a sample is.
LOOKED_AT = 16
# Machines whose answers take up to so many times as long count as equal where one has a conversation in its cache.
NEAR = 1.25
# Requests follow each other in a slot until one is free where they take this part of the time: what is learned of speeds is no nearer;
MUCH_FASTER = 2.0
# or until their machine has so many times as many requests as another would have with one of them.
MUCH_CROWDED = 2
# How old a listing of what is in memory may be: what we have done to the machine since it was asked for is not in it.
LISTING = 5.0
_NOWHERE: frozenset[int] = frozenset()
# Tickets below are those of loads for requests to come.
_OWN = -1
# A machine that has failed to load a model for requests to come is not asked to for so long, nor is one for a request that waits kept from it.
PRELOAD_AGAIN = 600.0
# A smaller change of what others use of a machine is none.
NOTICED = 0.05


class Adaptive:
    """The whole state; each method takes an event and returns what is to be done about it, in order."""

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self.known = Known()
        self.machines: Mapping[int, Machine] = self.known.machines
        self.speeds = self.known.speeds
        self._weights = weights or {}
        self._models = self.known.demands
        self._held: dict[int, set[str]] = {}  # by machine: what it has on disk
        self._bound: dict[int, tuple[int, str]] = {}
        self._where: dict[int, str] = {}  # the model of a waiting ticket
        self._waited_for: dict[str, None] = {}  # models with a queue
        self._turn = 0
        self._owners = Owners()
        self._preloads = _OWN  # the last ticket of our own
        # When a machine has failed to load a model for requests to come.
        self._failed: dict[tuple[int, str], float] = {}

    def fork(self) -> "Adaptive":
        """The same once more, to try a request on: whatever happens there happens to nobody."""
        fork = Adaptive(self._weights)
        fork.known = self.known.fork()
        fork.machines, fork._models, fork.speeds = fork.known.machines, fork.known.demands, fork.known.speeds
        fork._held = dict(self._held)
        fork._bound = dict(self._bound)
        fork._where = dict(self._where)
        fork._waited_for = dict(self._waited_for)
        fork._turn = self._turn
        fork._owners = self._owners.copied()
        fork._preloads = self._preloads
        fork._failed = dict(self._failed)
        return fork

    # What is known of the machines.

    def add(self, machine: Machine) -> None:
        self.known.machines[machine.id] = machine

    def hold(self, number: int, models: Mapping[str, int]) -> None:
        """`models` are on the disk of this machine, with their sizes; what it held before and is not among them is gone."""
        for name, size in models.items():
            held = self._model(name).holders
            held.size = size
            held.add(number)
        before = self._held.get(number, set())
        for name in before.difference(models):
            self._models[name].holders.discard(number)
        self._held[number] = set(models)
        machine = self.machines.get(number)
        for runner in machine.runners.values() if machine else ():
            if machine and weights(runner.model) in before.symmetric_difference(models):
                self._count(machine, runner)
                self._list(machine, runner)

    def remove(self, number: int) -> None:
        """The machine is gone, and with it what it ran: whoever was bound there comes again, or has failed."""
        machine = self.known.machines.pop(number)
        self.known.poorly.discard(number)
        for name in tuple(machine.runners):
            self._drop(machine, name)
        self._stay(machine)
        for name in self._held.pop(number, set()):
            self._models[name].holders.discard(number)

    def set_up(self, number: int, *, up: bool, well: bool = True, now: float) -> list[Decision]:
        """A machine that is not up gets nothing new, and nothing but what still runs is in its memory when it comes back.

        One that is not well is the last resort.
        """
        machine = self.machines[number]
        if (machine.up, machine.well) == (up, well):
            return []
        came = up and not machine.up
        machine.up, machine.well = up, well
        (self.known.poorly.discard if well else self.known.poorly.add)(number)
        if not up:
            self._stay(machine)
            for name, runner in tuple(machine.runners.items()):
                if runner.running:
                    self._count(machine, runner)
                else:
                    self._drop(machine, name)
        elif came:
            for runner in machine.runners.values():
                self._count(machine, runner)
        # Those who are not well take over where nobody is, and give way to one who is again.
        for model in self._models.values():
            model.stale = model.stale or number in model.holders
        decisions: list[Decision] = []
        for name in tuple(self._waited_for):
            if number in self._models[name].holders:
                decisions += self._serve(name, now)
        return [*decisions, *(self._offer(machine, now) if came else [])]

    def resize(
        self, number: int, slots: int, models_max: int, now: float, fewer: Mapping[str, int] | None = None
    ) -> list[Decision]:
        """It has been set up anew, or is known better. What runs beyond its slots goes on, and is not replaced."""
        machine = self.machines[number]
        machine.models_max, machine.slots, machine.fewer = models_max, slots, fewer or {}
        decisions: list[Decision] = []
        for runner in tuple(machine.runners.values()):
            if runner.slots == machine.slots_of(runner.model):
                continue
            runner.slots = machine.slots_of(runner.model)
            self._list(machine, runner)
            decisions += self._serve(runner.model, now)
        return decisions

    def share(self, number: int, ours: float) -> None:
        """So much of the machine is used by nobody else; where it is little, others are better."""
        machine = self.machines[number]
        if machine.ours == ours or (abs(machine.ours - ours) < NOTICED and ours < 1.0):
            return
        machine.ours = ours
        for runner in machine.runners.values():
            self._list(machine, runner)

    def seen_loaded(self, number: int, models: Iterable[str], now: float) -> list[Decision]:
        """What the machine says is in its memory; a model that is still loading is not listed (server/sched.go)."""
        machine = self.machines[number]
        machine.unloaded = {name: when for name, when in machine.unloaded.items() if now - when < LISTING}
        listed = set(models) - {weights(name) for name in machine.unloaded}
        decisions: list[Decision] = []
        for name, runner in tuple(machine.runners.items()):
            if weights(name) in listed:
                listed.discard(weights(name))
                if runner.loading:
                    decisions += self._loaded(machine, name, now)
            elif not runner.loading and not runner.running and now - runner.since > LISTING:
                self._drop(machine, name)
        for name in listed:
            if name not in machine.runners:
                self._put(machine, Runner(name, machine.slots_of(name), loading=False, since=now))
                decisions += self._serve(name, now)
        return decisions

    # Requests.

    def arrive(self, waiting: Waiting, now: float) -> list[Decision]:
        self.join(waiting, now)
        return self._serve(waiting.model, now)

    def take(self, ticket: int, name: str, near: int, now: float) -> int | None:
        """The machine whose free slot a request gets that may go anywhere, where nobody waits for its model.

        None where there is none: then it has to `arrive`, which would have done the same by way of the line.
        """
        model = self._models.get(name)
        if model is None or model.stale or len(model.line):
            return None
        number = self._next_free(name, model, near)
        if number is None:
            return None
        self._came(model, now)
        machine = self.machines[number]
        self._run(ticket, name, near, machine, now)
        self._list(machine, machine.runners[name])
        return machine.id

    def join(self, waiting: Waiting, now: float) -> None:
        """It waits, and nobody has been looked for yet."""
        model = self._model(waiting.model)
        self._came(model, now)
        model.line.push(waiting)
        self._where[waiting.ticket] = waiting.model
        self._waited_for[waiting.model] = None

    def leave(self, ticket: int, now: float) -> list[Decision]:
        """The client has gone, wherever its request was."""
        if name := self._where.pop(ticket, None):
            self._models[name].line.remove(ticket)
            self._tidy(name)
            return []
        return self.finished(ticket, now)

    def started(self, ticket: int, now: float) -> list[Decision]:
        """The first byte of an answer: the model is in memory."""
        if ticket not in self._bound:
            return []
        number, name = self._bound[ticket]
        machine = self.machines.get(number)
        if machine is None or name not in machine.runners or not machine.runners[name].loading:
            return []
        return self._loaded(machine, name, now)

    def finished(self, ticket: int, now: float) -> list[Decision]:
        """Answered, failed or given up: its slot is free. One that never had a slot changes nothing."""
        number, name = self._bound.pop(ticket, (-1, ""))
        machine = self.machines.get(number)
        runner = machine.runners.get(name) if machine else None
        if machine is None or runner is None or ticket not in runner.running:
            return []
        del runner.running[ticket]
        if not runner.running and not machine.up:
            self._drop(machine, name)
            return []
        if runner.loading and ticket < _OWN:
            self._failed[machine.id, name] = now
        if runner.loading and not runner.running:  # who loads leaves: the load is given up (llm/server.go)
            self._drop(machine, name)
            return self._serve(name, now)
        if machine.switch is not None and machine.switch.out == name:
            return [] if runner.running else self._complete(machine, now)
        for each in machine.runners.values():  # it is less crowded now
            self._list(machine, each)
        if not self._waited_for:
            return []  # most requests end so: nobody waits for anything
        decisions = self._serve(name, now)
        if not runner.running and not machine.loading:
            decisions += self._offer(machine, now)
        return decisions

    def expire(self, now: float) -> list[Waiting]:
        """Takes out whose deadline has passed."""
        late = [w for name in self._waited_for for w in self._models[name].line if w.deadline <= now]
        for each in late:
            self._where.pop(each.ticket)
            self._models[each.model].line.remove(each.ticket)
            self._tidy(each.model)
        return late

    def tick(self, now: float) -> list[Decision]:
        """About once a second: those who wait grow older, and what is not worth it for a young request is for an old one."""
        decisions: list[Decision] = []
        for name in list(islice(self._waited_for, LOOKED_AT)):
            self._models[name].stale = True  # whatever was missed is found now
            decisions += self._serve(name, now)
        return [*decisions, *self._spread(now)]

    def found(self, ticket: int, number: int, name: str, now: float) -> None:
        """A request that runs on a machine already: whoever placed it, it has one of the slots, if there are more of them or not."""
        machine = self.machines.get(number)
        if machine is None:
            return
        if name not in machine.runners:
            self._put(machine, Runner(name, machine.slots_of(name), loading=False, since=now))
        machine.runners[name].running[ticket] = now
        self._bound[ticket] = (number, name)

    def bound(self, ticket: int) -> tuple[int, str] | None:
        """The machine whose slot a request has, and for which model."""
        return self._bound.get(ticket)

    def again(self, ticket: int, nears: Collection[int], now: float) -> str | None:
        """More requests of the same kind took the slot over, one after the other, of these conversations; returns their model."""
        number, name = self._bound.get(ticket, (-1, ""))
        machine = self.machines.get(number)
        if machine is None or name not in machine.runners:
            return None
        machine.runners[name].running[ticket] = now
        self._models[name].count(now, len(nears))
        for near in nears:
            self._owners.own(near, number)
        return name

    def is_well_placed(self, ticket: int) -> bool:
        """Whether the slot of a request is still one to be given, and none that is free is much better: on a machine that is known to be
        much faster, or is as fast and has less than half as much to do.

        What is only guessed of a machine's speed moves nobody: the guess can be wrong by far.
        """
        number, name = self._bound.get(ticket, (-1, ""))
        machine = self.machines.get(number)
        runner = machine.runners.get(name) if machine else None
        if machine is None or runner is None or runner.free < 0 or not self._may_take(machine, name):
            return False
        fastest = self._fastest_free(name, self._models[name])
        if fastest is None:
            return True
        here = self.known.crowded_seconds(machine, name, machine.running - 1)
        there, other = fastest[0], self.machines[fastest[1]]
        if there <= here and MUCH_CROWDED * (other.running + 1) <= machine.running:
            return False
        return here <= there * MUCH_FASTER or not self.speeds.has_measured(other.id, name)

    def answered(self, number: int, name: str, prompt: tuple[int, float], output: tuple[int, float]) -> None:
        """What a final chunk says, before the request has `finished`: (tokens, seconds) of its prompt and of its answer."""
        model, machine = self._models.get(name), self.machines.get(number)
        if model is None or machine is None:
            return
        beside = max(0, machine.running - 1)
        if self.speeds.answered(number, name, model.size, prompt, output, beside):
            model.stale = True  # it is no guess any more on what the others are listed by

    def bound_model(self, ticket: int) -> str | None:
        """What a request that has a slot asked for."""
        return self._bound[ticket][1] if ticket in self._bound else None

    def is_loading(self, ticket: int) -> bool:
        """Whether the machine that a request was given to has yet to load its model."""
        number, name = self._bound.get(ticket, (-1, ""))
        machine = self.machines.get(number)
        runner = machine.runners.get(name) if machine else None
        return runner is not None and runner.loading

    def may_be_served(self, ticket: int) -> bool:
        """Whether any machine that is up has what a waiting request asks for, and may still get it."""
        name = self._where.get(ticket)
        if name is None:
            return False
        model = self._models[name]
        waiting = model.line.find(ticket)
        tried = waiting.tried if waiting else frozenset()
        return any(number not in tried and self.machines[number].up for number in model.holders)

    def holders(self, model: str) -> Collection[int]:
        """The machines that have it on disk."""
        return self._models[model].holders if model in self._models else ()

    def size(self, model: str) -> int:
        """Bytes; 0 for one that nobody holds."""
        return self.known.size(model)

    def queued(self, model: str) -> int:
        return len(self._models[model].line) if model in self._models else 0

    # Slots.

    def _serve(self, name: str, now: float) -> list[Decision]:
        """Gives free slots to those who wait for the model, and looks for another machine if some still do."""
        model = self._models[name]
        decisions = self._fill(name, model, now)
        while len(model.line):
            plan = best(self.known, name, self._candidates(model), now)
            if plan is None:
                break
            decisions += self._switch(name, plan, now)
        self._tidy(name)
        return decisions

    def _fill(self, name: str, model: Demand, now: float) -> list[Decision]:
        if model.stale:
            model.stale = False
            for number in tuple(model.serving):
                self._list(self.machines[number], self.machines[number].runners[name])
        decisions: list[Decision] = []
        refused: list[int] = []
        while len(model.line):
            alone = next(iter(model.line)) if len(model.line) == 1 else None
            free = self._next_free(name, model, *((alone.near, alone.tried) if alone else ()))
            if free is None:
                break
            machine, chosen = self.machines[free], model.line.pop(free)
            if chosen is None:
                refused.append(free)
                model.free.discard(free)
                continue
            decisions.append(self._bind(chosen, machine, now))
            self._list(machine, machine.runners[name])
        for number in refused:
            self._list(self.machines[number], self.machines[number].runners[name])
        return decisions

    def _next_free(self, name: str, model: Demand, near: int = 0, tried: frozenset[int] = _NOWHERE) -> int | None:
        """The machine that is fastest for one more, of those with a free slot; the owner of a conversation where it is as good."""
        fastest = self._fastest_free(name, model)
        if fastest is None:
            return None
        seconds, number = fastest
        owner = self._owners.of(near)
        if owner is None or owner == number or owner in tried or not self.is_free(name, owner):
            return number
        return owner if self._seconds(self.machines[owner], name) <= seconds * NEAR else number

    def _fastest_free(self, name: str, model: Demand) -> tuple[float, int] | None:
        """(seconds of a request, machine); what has become of machines since they were listed is looked at for those on top."""
        while (first := model.free.first()) is not None:
            seconds, number = first
            if not self.is_free(name, number):
                model.free.discard(number)
            elif (now := self._seconds(self.machines[number], name)) > seconds:
                model.free.put(number, now)
            else:
                return first
        return None

    def _seconds(self, machine: Machine, name: str) -> float:
        """How long one more request for the model would keep a slot."""
        return self.known.crowded_seconds(machine, name, machine.running)

    def is_free(self, name: str, number: int) -> bool:
        """Whether a request for the model would get a slot of the machine."""
        machine = self.machines.get(number)
        runner = machine.runners.get(name) if machine else None
        return machine is not None and runner is not None and runner.free > 0 and self._may_take(machine, name)

    def _may_take(self, machine: Machine, name: str) -> bool:
        """Whether a machine that has the model in memory may get requests for it."""
        leaving = machine.switch is not None and machine.switch.out == name
        if machine.runners[name].loading or leaving:
            return False
        # One that was deleted may still be in memory, where nobody can ask for it.
        return machine.id in self._models[name].holders and self.known.may_work(machine, self._models[name])

    def _bind(self, waiting: Waiting, machine: Machine, now: float) -> Bind:
        self._where.pop(waiting.ticket, None)
        self._run(waiting.ticket, waiting.model, waiting.near, machine, now)
        return Bind(waiting.ticket, machine.id)

    def _run(self, ticket: int, name: str, near: int, machine: Machine, now: float) -> None:
        machine.runners[name].running[ticket] = now
        self._bound[ticket] = (machine.id, name)
        self._owners.own(near, machine.id)

    def _came(self, model: Demand, now: float) -> None:
        model.count(now)
        self.known.begun = min(self.known.begun, now)

    def _list(self, machine: Machine, runner: Runner) -> None:
        free = self._models[runner.model].free
        if self.is_free(runner.model, machine.id):
            free.put(machine.id, self._seconds(machine, runner.model))
        else:
            free.discard(machine.id)

    # Loads.

    def _switch(self, name: str, plan: Plan, now: float) -> list[Decision]:
        machine = self.machines[plan.machine]
        if plan.victim is not None and machine.runners[plan.victim].running:
            machine.switch = Switch(plan.victim, name, now)
            self._models[name].coming[machine.id] = None
            self._models[plan.victim].serve(machine.id, 0.0)
            return []
        return self._load(machine, name, plan.victim, now)

    def _load(self, machine: Machine, name: str, victim: str | None, now: float) -> list[Decision]:
        first = self._models[name].line.pop(machine.id)
        if first is None:
            return []
        self.known.back += (now - first.arrived - self.known.back) * BACK
        decisions = self._make_room(machine, victim, now)
        self._put(machine, Runner(name, machine.slots_of(name), loading=True, since=now))
        return [*decisions, self._bind(first, machine, now)]

    def _spread(self, now: float) -> list[Decision]:
        """Models whose requests crowd each other get another machine that has little to do; nobody waits for that."""
        self._failed = {which: when for which, when in self._failed.items() if now - when < PRELOAD_AGAIN}
        decisions: list[Decision] = []
        for name, model in tuple(self._models.items()):
            if not model.serving or len(model.line) or not may_spread(self.known, name, now):
                continue
            candidates = [number for number in self._candidates(model) if (number, name) not in self._failed]
            plan = spread(self.known, name, candidates, now)
            if plan is not None:
                decisions += self._preload(self.machines[plan.machine], name, plan.victim, now)
        return decisions

    def _preload(self, machine: Machine, name: str, victim: str | None, now: float) -> list[Decision]:
        decisions = self._make_room(machine, victim, now)
        self._preloads -= 1
        self._put(machine, Runner(name, machine.slots_of(name), loading=True, since=now))
        self._run(self._preloads, name, 0, machine, now)
        return [*decisions, Preload(self._preloads, machine.id, name)]

    def _make_room(self, machine: Machine, victim: str | None, now: float) -> list[Decision]:
        if victim is None:
            return []
        self._drop(machine, victim)
        machine.unloaded[victim] = now
        return [Unload(machine.id, victim)]

    def _loaded(self, machine: Machine, name: str, now: float) -> list[Decision]:
        machine.runners[name].loading = False
        machine.runners[name].since = now
        self._count(machine, machine.runners[name])
        self._list(machine, machine.runners[name])
        return [*self._serve(name, now), *self._offer(machine, now)]

    def _complete(self, machine: Machine, now: float) -> list[Decision]:
        """The runner that had to go is idle: what shall come in its place is loaded, if anybody still waits for it."""
        switch = machine.switch
        if switch is None:
            return []
        self._stay(machine)
        decisions = self._load(machine, switch.into, switch.out, now)
        if not decisions:
            self._list(machine, machine.runners[switch.out])
            decisions = [*self._serve(switch.out, now), *self._offer(machine, now)]
        self._tidy(switch.into)
        return decisions

    def _offer(self, machine: Machine, now: float) -> list[Decision]:
        """The machine has room, or something idle: somebody may be helped by a load here."""
        found: tuple[Plan, str] | None = None
        for name in list(islice(self._waited_for, LOOKED_AT)):
            if machine.id in self._models[name].holders:
                plan = best(self.known, name, (machine.id,), now)
                if plan is not None and (found is None or plan.net > found[0].net):
                    found = plan, name
        if found is None:
            return []
        decisions = self._switch(found[1], found[0], now)
        self._tidy(found[1])
        return decisions

    def _candidates(self, model: Demand) -> Collection[int]:
        """Machines on which the model could be loaded: all of them, or a sample that moves on with each question."""
        if len(model.holders) <= LOOKED_AT:
            return tuple(model.holders)
        self._turn += SAMPLE
        return model.holders.drawn(self._turn, SAMPLE)

    # Counts and indexes.

    def _model(self, name: str) -> Demand:
        if name not in self._models:
            holders = Held() if weights(name) == name else self._model(weights(name)).holders  # one and the same
            self._models[name] = Demand(holders, Line(self._weights))
        return self._models[name]

    def _put(self, machine: Machine, runner: Runner) -> None:
        machine.runners[runner.model] = runner
        self._model(runner.model)
        self._count(machine, runner)
        self._list(machine, runner)

    def _count(self, machine: Machine, runner: Runner) -> None:
        """The requests for its model that a machine serves, or is to; none where it takes no more."""
        model = self._models[runner.model]
        if runner.loading and machine.up:
            model.coming.setdefault(machine.id, None)
        else:
            model.coming.pop(machine.id, None)
        leaving = machine.switch is not None and machine.switch.out == runner.model
        serves = machine.up and machine.id in model.holders and not runner.loading and not leaving
        model.serve(machine.id, self.known.rate(machine, runner.model) if serves else 0.0)

    def _drop(self, machine: Machine, name: str) -> None:
        del machine.runners[name]
        self._models[name].free.discard(machine.id)
        self._models[name].coming.pop(machine.id, None)
        self._models[name].serve(machine.id, 0.0)

    def _stay(self, machine: Machine) -> None:
        """No switch any more; what was to go out takes requests again."""
        switch, machine.switch = machine.switch, None
        if switch is not None:
            self._models[switch.into].coming.pop(machine.id, None)
            if switch.out in machine.runners:
                self._count(machine, machine.runners[switch.out])

    def _tidy(self, name: str) -> None:
        if not len(self._models[name].line):
            self._waited_for.pop(name, None)
