"""What all commands that change hosts have in common: plan, show, ask, do, report."""

from dataclasses import dataclass

import typer
from rich.text import Text

from olladist.cli.session import Session, begin, must_be_able_to_ask
from olladist.fleet.change import Make, carry_out, fetch, plan_for, plan_for_up, steps_in
from olladist.fleet.models import plan_models, replanned, sync_models
from olladist.fleet.open import Fleet
from olladist.fleet.outcome import Outcome
from olladist.fleet.results import values
from olladist.host.artifacts import Artifacts
from olladist.output.describe import describe_change
from olladist.output.failures import show_failures, show_problems
from olladist.output.plans import model_plan_block, plans_block, summary


@dataclass(frozen=True, slots=True)
class Change:
    """A change besides `up`: its command, its question, what a host is afterwards, and who makes the plan."""

    command: str
    question: str
    done: str
    make: Make


def change(context: typer.Context, what: Change, *, yes: bool, dry_run: bool, accept_new: bool) -> int:
    """Plans `what` on every host, shows it, asks, and does it."""
    session = begin(context)
    must_be_able_to_ask(yes=yes, dry_run=dry_run)

    async def work(fleet: Fleet) -> Outcome:
        plans = await plan_for(fleet, what.make)
        if dry_run or not steps_in(plans):
            return Outcome(plans)
        session.explain(plans_block(plans, commands=session.screen.verbose))
        if not await session.agreed(f"{what.question} ({summary(plans)})", yes=yes):
            return Outcome(plans, declined=True)
        return Outcome(plans, await carry_out(fleet, plans, what.done))

    return report(session, what.command, session.run(work, accept_new=accept_new), dry_run=dry_run)


def up(context: typer.Context, command: str, *, yes: bool, dry_run: bool, models: bool, accept_new: bool) -> int:
    """`up`, and with `dry_run` also `plan`."""
    session = begin(context)
    must_be_able_to_ask(yes=yes, dry_run=dry_run)

    async def work(fleet: Fleet) -> Outcome:
        artifacts = Artifacts(session.inventory)
        plans = await plan_for_up(fleet, artifacts)
        wanted = None
        if models and session.inventory.models:
            wanted = await plan_models(fleet, {host: each.survey for host, each in values(plans).items()})
        if dry_run or not (steps_in(plans) or (wanted and wanted.plan.steps)):
            return Outcome(plans, models=wanted)
        session.explain(plans_block(plans, commands=session.screen.verbose))
        if wanted:
            session.explain(model_plan_block(wanted.plan))
        if not await session.agreed(f"Do this? ({summary(plans, wanted)})", yes=yes):
            return Outcome(plans, models=wanted, declined=True)
        await fetch(fleet, plans, artifacts)
        carried = await carry_out(fleet, plans, "up")
        if not wanted:
            return Outcome(plans, carried)
        wanted = replanned(fleet, wanted, values(carried))
        return Outcome(plans, carried, wanted, await sync_models(fleet, wanted))

    return report(session, command, session.run(work, accept_new=accept_new), dry_run=dry_run)


def report(session: Session, command: str, outcome: Outcome, *, dry_run: bool) -> int:
    """What came of it: for people on stderr, as a document on stdout. A plan that was only asked for is data."""
    screen = session.screen
    if dry_run:
        screen.show(plans_block(outcome.planned, commands=screen.verbose))
        if outcome.models:
            screen.show(model_plan_block(outcome.models.plan))
    screen.document(describe_change(command, outcome, dry_run=dry_run))
    if outcome.declined:
        return 1
    # What blocks a plan stands in the plan itself.
    show_failures(screen, outcome.planned if dry_run else outcome.results)
    show_problems(screen, outcome.problems)
    if not dry_run and not outcome.exit_status:
        screen.talk(Text(f"{command}: {summary(outcome.planned, outcome.models)}"))
    return outcome.exit_status
