"""`olladist doctor`."""

import typer

from olladist.cli.options import AcceptNew


def doctor(context: typer.Context, accept_new: AcceptNew = False) -> int:
    """Check everything from DNS to a real generation, and print the fix beside each failure."""
