"""`olladist plan`."""

import typer

from olladist.cli.options import AcceptNew, NoModels


def plan(context: typer.Context, no_models: NoModels = False, accept_new: AcceptNew = False) -> int:
    """Show what `up` would do, and do nothing."""
    from olladist.cli.change import up

    return up(context, "plan", yes=False, dry_run=True, models=not no_models, accept_new=accept_new)
