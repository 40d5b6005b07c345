"""`olladist status`."""

from typing import Annotated

import typer

from olladist.cli.options import AcceptNew


def status(
    context: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again and again, until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option(metavar="SECONDS", min=0.5, help="How often --watch looks.")] = 2.0,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="How long a host may take to be connected.")
    ] = 1.5,
    accept_new: AcceptNew = False,
) -> int:
    """Show hosts, service, version, GPUs, loaded models, disk, and what differs from the inventory."""
