"""Why a request would go where: what the decision itself does with it on a copy of what is known, and what it has compared."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from olladist.scheduling.adaptive import Adaptive
from olladist.scheduling.decisions import Bind, Unload
from olladist.scheduling.estimate import expected_wait
from olladist.scheduling.line import Waiting
from olladist.scheduling.loads import Plan, plans
from olladist.scheduling.machines import Machine, Runner


class Verdict(StrEnum):
    """What a machine is to a request. The first three: there it goes."""

    TAKES = "takes"  # a slot is free there, and it gets it
    LOADS = "loads"  # the model is loaded there for it, at once
    SWITCHES = "switches"  # the model is loaded there when another one that makes room for it is idle
    FREE = "free"  # a slot is free there too
    FULL = "full"
    LOADING = "loading"  # the model is being loaded there for others
    LEAVING = "leaving"  # it has the model in memory, but that makes room for another
    BUSY = "busy"  # it loads another model, or waits for one to be idle
    KEPT = "kept"  # requests wait for what is in its memory
    UNNEEDED = "unneeded"  # it could load it, but a slot is free elsewhere
    WORSE = "worse"  # it could load it, but another gains more by it
    HARMS = "harms"  # a load there would harm others more than it gains
    FAILED = "failed"  # it must not go there (again)
    POORLY = "poorly"  # it is not well, and another is
    DOWN = "down"
    ABSENT = "absent"  # it has not got the model


@dataclass(frozen=True, slots=True)
class Prospect:
    """`other` is the model that would have to make room, that does so, or that is being loaded; "" for none.

    `wait` are seconds until a slot is free there or what has to make room is idle, None where neither is to be, or nobody knows; `load` those of the load
    after that, as far as it is not done. `rate` are tokens per second, `learned` from its answers. `plan` is what a load there would gain and harm, where one could be begun.
    """

    verdict: Verdict
    in_memory: bool
    slots: int
    running: int
    other: str
    wait: float | None
    load: float
    rate: float
    learned: bool
    plan: Plan | None


@dataclass(frozen=True, slots=True)
class Explained:
    """`machine` is where the request would go now, None where it would wait as number `position`, `wait` seconds by what is known.

    `before` of those who wait have their turn before it, by priority and by what their keys have had.
    """

    machine: int | None
    position: int
    before: int
    wait: float | None
    machines: Mapping[int, Prospect]


def explain(adaptive: Adaptive, waiting: Waiting, numbers: Iterable[int], now: float) -> Explained:
    """What would become of `waiting` if it came now, and what each of these machines is to it. Nothing changes."""
    name, numbers = waiting.model, tuple(numbers)
    before, after = adaptive.fork(), adaptive.fork()
    before.join(waiting, now)
    turn = before.known.demands[name].line.before(waiting.ticket)
    wait = expected_wait(adaptive.known, name, now, turn)
    decisions = after.arrive(waiting, now)
    chosen = next(
        (each.machine for each in decisions if isinstance(each, Bind) and each.ticket == waiting.ticket), None
    )
    unloads = {each.machine: each.model for each in decisions if isinstance(each, Unload)}
    if chosen is not None and chosen not in numbers:
        numbers = (chosen, *numbers)
    best: dict[int, Plan] = {}
    for plan in plans(before.known, name, numbers, now):
        if plan.machine not in best or plan.net > best[plan.machine].net:
            best[plan.machine] = plan
    look = _Look(before, after, waiting, chosen, now)
    machines = {
        number: look.at(before.machines[number], best.get(number), unloads.get(number, ""))
        for number in numbers
        if number in before.machines
    }
    position = 0 if chosen is not None else after.queued(name)
    return Explained(chosen, position, turn if chosen is None else 0, _begins(wait, chosen, machines), machines)


def _begins(wait: float | None, chosen: int | None, machines: Mapping[int, Prospect]) -> float | None:
    """When the request begins: the load that is made for it is known better than by what others wait."""
    if chosen is not None:
        return machines[chosen].load if chosen in machines and machines[chosen].verdict is Verdict.LOADS else 0.0
    planned = [each for each in machines.values() if each.verdict is Verdict.SWITCHES and each.wait is not None]
    if wait is None and planned:
        return min((each.wait or 0.0) + each.load for each in planned)
    return wait


@dataclass(frozen=True, slots=True)
class _Look:
    """`before` has the request among those who wait, `after` has decided about it."""

    before: Adaptive
    after: Adaptive
    waiting: Waiting
    chosen: int | None
    now: float

    def at(self, machine: Machine, plan: Plan | None, unloaded: str) -> Prospect:
        name, known = self.waiting.model, self.before.known
        runner = machine.runners.get(name)
        verdict, other = self._verdict(machine, runner, plan)
        size = self.before.size(name)
        in_memory = runner is not None and not runner.loading
        return Prospect(
            verdict=verdict,
            in_memory=in_memory,
            slots=runner.slots if runner else machine.slots_of(name),
            running=len(runner.running) if runner else 0,
            other=unloaded or other,
            wait=self._wait(machine, runner, plan, verdict),
            load=self._load(machine, runner, in_memory=in_memory),
            rate=known.speeds.output_rate(machine.id, name, size),
            learned=known.speeds.knows(machine.id),
            plan=plan,
        )

    def _verdict(self, machine: Machine, runner: Runner | None, plan: Plan | None) -> tuple[Verdict, str]:
        name, demand = self.waiting.model, self.before.known.demands[self.waiting.model]
        then = self.after.machines[machine.id]
        if self.chosen == machine.id:
            return (Verdict.LOADS if runner is None else Verdict.TAKES), ""
        if not machine.up:
            return Verdict.DOWN, ""
        if machine.id not in demand.holders and runner is None:
            return Verdict.ABSENT, ""
        if machine.id in self.waiting.tried:
            return Verdict.FAILED, ""
        if not self.before.known.may_work(machine, demand):
            return Verdict.POORLY, ""
        if then.switch is not None and then.switch.into == name:
            return Verdict.SWITCHES, then.switch.out
        if then.switch is not None and then.switch.out == name:
            return Verdict.LEAVING, then.switch.into
        if name in then.runners:
            loading = then.runners[name].loading
            full = Verdict.FREE if self.after.is_free(name, machine.id) else Verdict.FULL
            return (Verdict.LOADING if loading else full), ""
        return self._of_load(then, plan)

    def _of_load(self, then: Machine, plan: Plan | None) -> tuple[Verdict, str]:
        """Why the model is not loaded on a machine that has it on disk alone."""
        if plan is None:
            if then.switch is not None:
                return Verdict.BUSY, then.switch.into
            loading = next((runner.model for runner in then.runners.values() if runner.loading), "")
            return (Verdict.BUSY, loading) if loading else (Verdict.KEPT, next(iter(then.runners), ""))
        if self.chosen is not None and self.before.is_free(self.waiting.model, self.chosen):
            return Verdict.UNNEEDED, plan.victim or ""
        return (Verdict.WORSE if plan.net > 0 else Verdict.HARMS), plan.victim or ""

    def _wait(self, machine: Machine, runner: Runner | None, plan: Plan | None, verdict: Verdict) -> float | None:
        known = self.before.known
        match verdict:
            case Verdict.TAKES | Verdict.FREE | Verdict.LOADS | Verdict.LOADING:
                return 0.0
            case Verdict.FULL if runner is not None and known.speeds.knows(machine.id):
                return min(known.remaining(machine, runner, self.now), default=0.0)
            case Verdict.SWITCHES if machine.switch is not None:  # since before this request
                return known.drain_seconds(machine, machine.runners[machine.switch.out], self.now)
            case Verdict.SWITCHES | Verdict.UNNEEDED | Verdict.WORSE | Verdict.HARMS if plan is not None:
                return plan.drain
            case _:
                return None

    def _load(self, machine: Machine, runner: Runner | None, *, in_memory: bool) -> float:
        if in_memory:
            return 0.0
        if runner is not None:
            return self.before.known.ready(machine, self.waiting.model, self.now)[0]
        return self.before.known.speeds.load_seconds(machine.id, self.before.size(self.waiting.model))
