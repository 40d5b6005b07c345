"""`olladist demo`."""

import typer


def demo(context: typer.Context) -> int:
    """Show all of it on this machine: three throw-away hosts, up, models sync, the gateway, a chat, a host that dies.

    Needs no GPU, no root and no network. Takes a real Ollama where one is found, else a simulated one, and says which.
    """
