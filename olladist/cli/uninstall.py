"""`olladist uninstall`."""

import typer

from olladist.cli.options import AcceptNew, DryRun, Yes


def uninstall(context: typer.Context, yes: Yes = False, dry_run: DryRun = False, accept_new: AcceptNew = False) -> int:
    """Stop Ollama and remove what olladist made. An Ollama that was there before stays, and so do the models."""
    from olladist.cli.change import Change, change
    from olladist.host.plan import plan_uninstall

    what = Change("uninstall", "Remove Ollama?", "removed", plan_uninstall)
    return change(context, what, yes=yes, dry_run=dry_run, accept_new=accept_new)
