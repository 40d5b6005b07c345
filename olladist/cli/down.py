"""`olladist down`."""

import typer

from olladist.cli.options import AcceptNew, DryRun, Yes


def down(context: typer.Context, yes: Yes = False, dry_run: DryRun = False, accept_new: AcceptNew = False) -> int:
    """Stop Ollama on all hosts.

    Nothing is removed, and `up` starts it again.
    """
    from olladist.cli.change import Change, change
    from olladist.host.plan import plan_down

    what = Change("down", "Stop Ollama?", "stopped", plan_down)
    return change(context, what, yes=yes, dry_run=dry_run, accept_new=accept_new)
