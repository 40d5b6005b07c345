"""`olladist restart`."""

import typer

from olladist.cli.options import AcceptNew, DryRun, Yes


def restart(context: typer.Context, yes: Yes = False, dry_run: DryRun = False, accept_new: AcceptNew = False) -> int:
    """Restart Ollama on all hosts.

    Waits until each answers again. Requests that run there end with an error.
    """
    from olladist.cli.change import Change, change
    from olladist.host.plan import plan_restart

    what = Change("restart", "Restart Ollama?", "restarted", plan_restart)
    return change(context, what, yes=yes, dry_run=dry_run, accept_new=accept_new)
