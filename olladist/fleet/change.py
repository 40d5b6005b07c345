"""Changes to many hosts: a plan for each, then each plan carried out, all hosts side by side."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from olladist.errors import HostError
from olladist.fleet.events import HERE, Doing, Finished, Moving
from olladist.fleet.open import Fleet
from olladist.fleet.results import values
from olladist.fleet.survey import Survey, glance, survey
from olladist.host.apply import apply
from olladist.host.artifacts import Artifacts
from olladist.host.desired import Desired, Problem
from olladist.host.found import Facts
from olladist.host.plan import Plan, plan_up
from olladist.host.steps import Step
from olladist.inventory.model import Host
from olladist.ssh.runner import Runner


class Blocked(HostError):
    """A host on which nothing is done before a person has put something right."""

    def __init__(self, host: str, problems: tuple[Problem, ...]) -> None:
        cause = "\n".join(problem.text for problem in problems)
        super().__init__(host, "planning", cause, hint="\n".join(p.hint for p in problems if p.hint))


@dataclass(frozen=True, slots=True)
class Planned:
    """What is to be done on one host; just that will be done there, step for step."""

    survey: Survey
    plan: Plan


Plans: TypeAlias = Mapping[str, Planned | HostError]
# A host's plan out of what was found there and what shall be.
Make: TypeAlias = Callable[[Facts, Desired], Plan]


async def plan_for_up(fleet: Fleet, artifacts: Artifacts) -> Plans:
    """What brings each host to its declared state. OlladistError where a release cannot be had at all."""

    async def one(runner: Runner, host: Host) -> Planned:
        fleet.tell(Doing(host.name, "reading facts"))
        found = await survey(runner, host, fleet.inventory, artifacts)
        fleet.tell(Finished(host.name, ""))
        return Planned(found, plan_up(found.facts, found.desired))

    return await fleet.each(one)


async def plan_for(fleet: Fleet, make: Make) -> Plans:
    """The plans of a change that needs no release."""
    artifacts = Artifacts(fleet.inventory)

    async def one(runner: Runner, host: Host) -> Planned:
        fleet.tell(Doing(host.name, "reading facts"))
        found = await glance(runner, host, fleet.inventory, artifacts)
        fleet.tell(Finished(host.name, ""))
        return Planned(found, make(found.facts, found.desired))

    return await fleet.each(one)


async def fetch(fleet: Fleet, plans: Plans, artifacts: Artifacts) -> None:
    """Has the tarballs of all plans here, whole: none of them has touched a host yet when this fails."""
    wanted = [tarball for each in values(plans).values() if not each.plan.problems for tarball in each.plan.tarballs]
    try:
        await artifacts.fetch(wanted, lambda name, done, total: fleet.tell(Moving(HERE, name, done, total)))
    finally:
        fleet.tell(Finished(HERE, ""))


async def carry_out(fleet: Fleet, plans: Plans, done: str) -> Plans:
    """Each plan run on its host; `done` is what a host is then ("up"). A host with problems is left alone."""

    async def one(runner: Runner, host: Host) -> Planned:
        planned = ready[host.name]

        def on_step(step: Step, number: int, of: int) -> None:
            fleet.tell(Doing(host.name, step.describe(), number, of))

        await apply(
            runner, planned.plan, on_step, lambda what, now, total: fleet.tell(Moving(host.name, what, now, total))
        )
        fleet.tell(Finished(host.name, done))
        return planned

    ready = {host: each for host, each in values(plans).items() if each.plan.steps and not each.plan.problems}
    outcomes = await fleet.each(one, hosts=[host for host in fleet.hosts if host.name in ready])
    return {host: outcomes.get(host, each) for host, each in blocked(plans).items()}


def blocked(plans: Plans) -> Plans:
    """The plans, with an error in the place of one that cannot be carried out."""
    return {
        host: Blocked(host, each.plan.problems) if isinstance(each, Planned) and each.plan.problems else each
        for host, each in plans.items()
    }


def steps_in(plans: Plans) -> int:
    """How many steps there are that can be carried out."""
    return sum(len(each.plan.steps) for each in values(plans).values() if not each.plan.problems)
