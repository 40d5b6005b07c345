"""`olladist proxy`."""

from typing import Annotated

import typer

from olladist.cli.options import AcceptNew
from olladist.inventory.model import Strategy, Transport


def proxy(
    context: typer.Context,
    listen: Annotated[
        str | None, typer.Option(metavar="[HOST]:PORT", help="Where clients connect. Port 0: any free one.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="How many processes carry requests.")] = None,
    strategy: Annotated[Strategy | None, typer.Option(help="How a host is picked for a request.")] = None,
    transport: Annotated[
        Transport | None, typer.Option(help="How hosts are reached: through SSH tunnels, or directly.")
    ] = None,
    accept_new: AcceptNew = False,
) -> int:
    """Run the gateway in the foreground: one address that any Ollama, OpenAI or Anthropic client can use.

    Without options it does what [gateway] of the inventory says. Ctrl-C lets running answers end first.
    """
