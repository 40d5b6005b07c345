"""Plans as people read them before they say yes: what happens on which host, hosts with the same plan together."""

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.text import Text

from olladist.errors import HostError
from olladist.fleet.change import Planned
from olladist.fleet.models import ModelPlan
from olladist.fleet.results import values
from olladist.modelstore.plan import SyncPlan
from olladist.output.nodes import fold
from olladist.units import size


def plans_block(plans: Mapping[str, Planned | HostError], *, commands: bool = False) -> RenderableType:
    """Every host with its steps, or that there is nothing to do; with `commands` also what runs there."""
    same: dict[tuple[str, ...], list[str]] = {}
    for host, planned in values(plans).items():
        same.setdefault(_lines(planned, commands=commands), []).append(host)
    blocks: list[RenderableType] = []
    for (kind, *rest), hosts in same.items():
        head = Text.assemble((fold(hosts), "bold"), f" ({kind})" if kind else "")
        if len(hosts) > 1:
            head.append(f", {len(hosts)} hosts")
        blocks.append(Group(head, *(Text(line) for line in rest)))
    return Group(*blocks)


def _lines(planned: Planned, *, commands: bool) -> tuple[str, ...]:
    """What is said of one host: first which service it gets, then the steps, what stands against them, and notes."""
    plan = planned.plan
    lines = [f"{planned.survey.desired.mode} service"]
    for number, step in enumerate(plan.steps, 1):
        lines.append(f"  {number}. {step.describe()}")
        if commands:
            lines += [f"       {line}" for command in step.commands() for line in command.splitlines()]
    for problem in plan.problems:
        lines.append(f"  cannot go on: {problem.text}")
        if problem.hint:
            lines.append(f"    hint: {problem.hint}")
    if not plan.steps and not plan.problems:
        lines.append("  nothing to do")
    lines += [f"  note: {note}" for note in plan.notes]
    return tuple(lines)


def model_plan_block(plan: SyncPlan) -> RenderableType:
    """Every model that moves, and what is known of its size."""
    if not plan.steps:
        return Text.assemble(("models", "bold"), ": nothing to do")
    head = Text.assemble(("models", "bold"), f" ({model_summary(plan)})")
    return Group(head, *(Text(f"  {number}. {step.describe()}") for number, step in enumerate(plan.steps, 1)))


def summary(plans: Mapping[str, Planned | HostError], models: ModelPlan | None = None) -> str:
    """One line: how much there is to do, or was done."""
    busy = [each for each in values(plans).values() if each.plan.steps and not each.plan.problems]
    parts = []
    if busy:
        parts.append(f"{_count(sum(len(each.plan.steps) for each in busy), 'step')} on {_count(len(busy), 'host')}")
    if models and models.plan.steps:
        parts.append(f"models: {model_summary(models.plan)}")
    return "; ".join(parts) or "nothing to do"


def model_summary(plan: SyncPlan) -> str:
    if not plan.steps:
        return "nothing to do"
    return _count(len(plan.steps), "step") + (f", {size(plan.size)}" if plan.size else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
