"""`olladist proxy`, and the commands below it that speak to one that runs."""

from typing import TYPE_CHECKING, Annotated

import typer

from olladist.cli import proxy_orders
from olladist.cli.key import key
from olladist.cli.options import AcceptNew
from olladist.inventory.model import Strategy, Transport

if TYPE_CHECKING:
    from olladist.cli.session import Session
    from olladist.gateway.running import Running
    from olladist.gateway.settings import Settings

proxy = typer.Typer(rich_markup_mode=None)


@proxy.callback(invoke_without_command=True)
def run_gateway(
    context: typer.Context,
    listen: Annotated[
        str | None, typer.Option(metavar="ADDRESS:PORT", help="Where clients connect; port 0 is any free one.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="How many processes carry requests.")] = None,
    strategy: Annotated[Strategy | None, typer.Option(help="How a host is picked for a request.")] = None,
    transport: Annotated[
        Transport | None, typer.Option(help="How hosts are reached: through SSH tunnels, or directly.")
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure", help="Listen on more than this machine without API keys: everybody may do everything."
        ),
    ] = False,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Take over from the gateway of this inventory that runs, without a refused connection."
        ),
    ] = False,
    temporary: Annotated[
        str | None,
        typer.Option(
            "--temporary", hidden=True, help="Not found by the commands below; opened by a key with this SHA-256."
        ),
    ] = None,
    accept_new: AcceptNew = False,
) -> int:
    """Run the gateway: one Ollama out of all hosts.

    It stays in the foreground. Any Ollama, OpenAI or Anthropic client can use its address. Without options it does what [gateway] of the inventory
    says. Ctrl-C lets running answers end first; a second one does not. SIGHUP has the inventory read again. Nobody is asked for host keys or passwords
    here: `olladist status` does that.
    """
    from olladist.errors import UsageError

    if context.invoked_subcommand is not None:
        given = [listen, workers, strategy, transport, insecure, replace, temporary, accept_new]
        if any(option not in {None, False} for option in given):
            raise UsageError(
                f"options that stand before {context.invoked_subcommand!r} would start a gateway",
                hint=f"`olladist proxy {context.invoked_subcommand} --help` shows what can stand after it",
            )
        return 0
    from olladist.cli.session import begin

    session = begin(context)
    settings = _settings(
        session, listen, workers, strategy, transport, insecure=insecure, temporary=temporary, accept_new=accept_new
    )
    return _serve(session, settings, replace=replace)


proxy.command("status")(proxy_orders.status)
proxy.command("explain")(proxy_orders.explain)
proxy.command("reload")(proxy_orders.reload)
proxy.command("drain")(proxy_orders.drain)
proxy.command("undrain")(proxy_orders.undrain)
proxy.command("stop")(proxy_orders.stop)
proxy.command("key")(key)


def _settings(
    session: "Session",
    listen: str | None,
    workers: int | None,
    strategy: Strategy | None,
    transport: Transport | None,
    *,
    insecure: bool,
    temporary: str | None,
    accept_new: bool,
) -> "Settings":
    """The command line before the environment before the inventory. UsageError where they do not go together."""
    import os

    from olladist.cli.gateway import host_and_port
    from olladist.gateway.control.modes import settings_of
    from olladist.gateway.environment import ADMIN_TOKEN, ORIGINS
    from olladist.gateway.opening import with_door
    from olladist.gateway.settings import Settings

    gateway = session.inventory.gateway
    host, port = host_and_port(listen or gateway.listen)
    said = {"listen": listen, "workers": workers, "strategy": strategy, "transport": transport}
    settings = Settings(
        run_dir="",
        inventory=str(session.inventory.path.absolute()),
        limit=session.options.limit,
        listen_host=host,
        listen_port=port,
        workers=workers or gateway.workers,
        strategy=(strategy or gateway.strategy).value,
        transport=(transport or gateway.transport).value,
        accept_new=accept_new,
        verbose=session.options.verbose,
        given=(
            *(name for name, value in said.items() if value is not None),
            *(["origins"] if ORIGINS in os.environ else []),
        ),
        insecure=insecure,
        temporary=temporary or "",
    )
    settings = with_door(settings_of(settings, gateway, os.environ), gateway, os.environ)
    os.environ.pop(ADMIN_TOKEN, None)  # the gateway's processes know its digest, and need no more
    return settings


def _serve(session: "Session", settings: "Settings", *, replace: bool) -> int:
    import dataclasses
    import shutil
    import signal

    from rich.text import Text

    from olladist.gateway.running import sweep
    from olladist.gateway.supervisor import run
    from olladist.output.documents import ProxyDocument
    from olladist.places import runtime_dir, runtime_dirs

    replacing = _to_be_replaced(session, settings, wanted=replace)
    sweep(runtime_dirs())

    def on_ready(url: str) -> None:
        if replacing:
            session.screen.talk(Text(f"took over from process {replacing.pid}, which ends when its streams have"))
        session.screen.talk(Text(f"listening on {url}"))
        session.screen.document(ProxyDocument(url=url))

    run_dir = runtime_dir()
    try:
        ended_by = run(dataclasses.replace(settings, run_dir=str(run_dir)), on_ready, replacing=replacing)
    finally:
        shutil.rmtree(run_dir, ignore_errors=True)
    return 130 if ended_by == signal.SIGINT else 0


def _to_be_replaced(session: "Session", settings: "Settings", *, wanted: bool) -> "Running | None":
    """The gateway of this inventory at this address; none where none runs, or it is not wanted.

    UsageError where one listens elsewhere; GatewayError where one is in the way.
    """
    from rich.text import Text

    from olladist.errors import GatewayError, UsageError
    from olladist.gateway.running import find

    running = find(session.inventory.path)
    here = [each for each in running if each.host == settings.listen_host and settings.listen_port in {0, each.port}]
    if wanted and here:
        return here[0]
    if wanted and running:
        raise UsageError(
            f"the gateway that runs listens on {running[0].host}:{running[0].port}, not on {settings.listen_host}:{settings.listen_port}",
            hint=f"only the same address can be taken over: --listen {running[0].host}:{running[0].port}, or `olladist proxy stop` first",
        )
    if wanted:
        session.screen.talk(Text("no gateway of this inventory runs: there is nothing to replace"))
    elif here and settings.listen_port:
        raise GatewayError(
            f"a gateway of this inventory listens on {here[0].host}:{here[0].port} already (pid {here[0].pid})",
            hint="`olladist proxy --replace` takes over from it, `olladist proxy reload` has it read the inventory again",
        )
    return None
