"""`olladist proxy`."""

from typing import Annotated

import typer

from olladist.cli.options import AcceptNew
from olladist.inventory.model import Strategy, Transport


def proxy(
    context: typer.Context,
    listen: Annotated[
        str | None, typer.Option(metavar="ADDRESS:PORT", help="Where clients connect; port 0 is any free one.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="How many processes carry requests.")] = None,
    strategy: Annotated[Strategy | None, typer.Option(help="How a host is picked for a request.")] = None,
    transport: Annotated[
        Transport | None, typer.Option(help="How hosts are reached: through SSH tunnels, or directly.")
    ] = None,
    accept_new: AcceptNew = False,
) -> int:
    """Run the gateway: one Ollama out of all hosts.

    It stays in the foreground. Any Ollama, OpenAI or Anthropic client can use its address. Without options it does what [gateway] of the inventory
    says. Ctrl-C lets running answers end first; a second one does not. Nobody is asked for host keys or passwords here:
    `olladist status` does that.
    """
    import os
    import shutil
    import signal
    from dataclasses import replace

    from rich.text import Text

    from olladist.cli.session import begin
    from olladist.errors import UsageError
    from olladist.gateway.control.modes import settings_of
    from olladist.gateway.environment import ADMIN_TOKEN
    from olladist.gateway.settings import Settings
    from olladist.gateway.supervisor import run
    from olladist.output.documents import ProxyDocument
    from olladist.places import runtime_dir

    session = begin(context)
    gateway = session.inventory.gateway
    host, _, port = (listen or gateway.listen).rpartition(":")
    if not (host and port.isascii() and port.isdecimal() and int(port) <= 65535):
        raise UsageError(f"--listen {listen} is not ADDRESS:PORT", hint="--listen 127.0.0.1:11434, or [::]:11434")
    settings = Settings(
        run_dir="",
        inventory=str(session.inventory.path.absolute()),
        limit=session.options.limit,
        listen_host=host.strip("[]"),
        listen_port=int(port),
        workers=workers or gateway.workers,
        strategy=(strategy or gateway.strategy).value,
        transport=(transport or gateway.transport).value,
        accept_new=accept_new,
        verbose=session.options.verbose,
        given=tuple(name for name, value in (("strategy", strategy), ("transport", transport)) if value is not None),
    )

    settings = settings_of(settings, gateway, os.environ)
    run_dir = runtime_dir()
    os.environ.pop(ADMIN_TOKEN, None)  # the gateway's processes know its digest, and need no more

    def on_ready(url: str) -> None:
        session.screen.talk(Text(f"listening on {url}"))
        session.screen.document(ProxyDocument(url=url))

    try:
        ended_by = run(replace(settings, run_dir=str(run_dir)), on_ready)
    finally:
        shutil.rmtree(run_dir, ignore_errors=True)
    return 130 if ended_by == signal.SIGINT else 0
