"""`olladist up`."""

import typer

from olladist.cli.options import AcceptNew, DryRun, NoModels, Yes


def up(
    context: typer.Context,
    yes: Yes = False,
    dry_run: DryRun = False,
    no_models: NoModels = False,
    accept_new: AcceptNew = False,
) -> int:
    """Make the fleet as declared.

    Installs, configures and starts Ollama on every host, then brings the models. The plan is shown and asked about first. A second run changes nothing. Whatever was interrupted, the next run repairs.
    """
    from olladist.cli import change

    return change.up(context, "up", yes=yes, dry_run=dry_run, models=not no_models, accept_new=accept_new)
