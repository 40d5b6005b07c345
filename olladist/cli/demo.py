"""`olladist demo`."""

from typing import Annotated

import typer


def demo(
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Take the simulated Ollama even where a real one is found.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave what was written, to look at.")] = False,
) -> int:
    """Show all of it on this machine.

    Needs no GPU, no root and no network. Three throw-away hosts, up, models sync, the gateway, a streamed chat, and a host that dies under load. Takes a real
    Ollama where one is found, else a simulated one, and says which.
    """
    from olladist.demo.run import run

    return run(simulated=simulated, keep=keep)
