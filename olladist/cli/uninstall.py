"""`olladist uninstall`."""

from typing import Annotated

import typer

from olladist.cli.options import AcceptNew, DryRun, Yes


def uninstall(
    context: typer.Context,
    yes: Yes = False,
    dry_run: DryRun = False,
    purge_models: Annotated[bool, typer.Option("--purge-models", help="Remove the models too.")] = False,
    accept_new: AcceptNew = False,
) -> int:
    """Stop Ollama and remove what olladist made.

    An Ollama that was there before stays and runs on as it did before; the models stay too.
    """
    from functools import partial

    from olladist.cli.change import Change, change
    from olladist.host.plan import plan_uninstall

    question = "Remove Ollama and its models?" if purge_models else "Remove Ollama?"
    what = Change("uninstall", question, "removed", partial(plan_uninstall, purge_models=purge_models))
    return change(context, what, yes=yes, dry_run=dry_run, accept_new=accept_new)
