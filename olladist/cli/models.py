"""`olladist models`."""

import typer

from olladist.cli.options import AcceptNew, DryRun, Yes

models = typer.Typer(help="Show, plan and bring models across the fleet.", rich_markup_mode=None)


@models.callback(invoke_without_command=True)
def overview(context: typer.Context) -> None:
    """Show, plan and bring models across the fleet."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


@models.command("ls")
def models_ls(context: typer.Context, accept_new: AcceptNew = False) -> int:
    """Show which models are where, and what differs."""
    from olladist.cli.session import begin
    from olladist.fleet.models import list_models
    from olladist.fleet.results import exit_status, values
    from olladist.output.describe import describe_listing
    from olladist.output.failures import note, show_failures
    from olladist.output.models import models_block

    session = begin(context)
    listing = session.run(list_models, accept_new=accept_new)
    session.screen.show(models_block(listing.rows))
    session.screen.document(describe_listing(listing))
    for host, seen in values(listing.stores).items():
        for problem in seen.contents.problems:
            session.screen.talk(note(f"{host}: {problem}"))
    show_failures(session.screen, listing.stores)
    return exit_status(listing.stores)


@models.command("plan")
def models_plan(context: typer.Context, accept_new: AcceptNew = False) -> int:
    """Show what `models sync` would copy or pull, and do nothing."""
    return _sync(context, "plan", yes=False, dry_run=True, accept_new=accept_new)


@models.command("sync")
def models_sync(
    context: typer.Context, yes: Yes = False, dry_run: DryRun = False, accept_new: AcceptNew = False
) -> int:
    """Bring the declared models to the declared hosts.

    Only what is missing crosses the network.
    """
    return _sync(context, "sync", yes=yes, dry_run=dry_run, accept_new=accept_new)


def _sync(context: typer.Context, command: str, *, yes: bool, dry_run: bool, accept_new: bool) -> int:
    from rich.text import Text

    from olladist.cli.session import begin, must_be_able_to_ask
    from olladist.fleet.models import plan_models, sync_models
    from olladist.fleet.open import Fleet
    from olladist.fleet.outcome import Synced
    from olladist.output.describe import describe_sync
    from olladist.output.failures import show_failures, show_problems
    from olladist.output.plans import model_plan_block, model_summary

    session = begin(context)
    screen = session.screen
    must_be_able_to_ask(yes=yes, dry_run=dry_run)

    async def work(fleet: Fleet) -> Synced:
        plan = await plan_models(fleet)
        if dry_run or not plan.plan.steps:
            return Synced(fleet.hosts, plan)
        session.explain(model_plan_block(plan.plan))
        if not await session.agreed("Bring these models?", yes=yes):
            return Synced(fleet.hosts, plan, declined=True)
        return Synced(fleet.hosts, plan, await sync_models(fleet, plan))

    synced = session.run(work, accept_new=accept_new)
    if dry_run:
        screen.show(model_plan_block(synced.plan.plan))
    screen.document(describe_sync(command, synced))
    if not synced.declined:
        show_failures(screen, synced.results)
        show_problems(screen, synced.plan.plan.problems)
        if not dry_run and not synced.exit_status:
            screen.talk(Text(f"models sync: {model_summary(synced.plan.plan)}"))
    return synced.exit_status
