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
    ] = 0.8,
    accept_new: AcceptNew = False,
) -> int:
    """Show how every host does, and what is wrong.

    Service, version, GPUs and their memory, loaded models, disk, and what differs from the inventory. Asks nobody for a password. Ends with 1 where a host cannot be asked or its Ollama gives no answer.
    """
    import asyncio

    from olladist.cli.session import begin
    from olladist.errors import UsageError
    from olladist.fleet.open import Fleet
    from olladist.fleet.results import exit_status, values
    from olladist.fleet.status import FleetStatus, read_status
    from olladist.output.describe import describe_status
    from olladist.output.failures import show_failures
    from olladist.output.status import status_block
    from olladist.output.watch import redrawn

    session = begin(context)
    screen = session.screen
    if watch and screen.json:
        raise UsageError("--watch shows a table; --json prints one document", hint="leave one of them out")

    async def again_and_again(fleet: Fleet) -> FleetStatus:
        with redrawn(screen) as show:
            while True:
                fleet.lost.clear()
                show(status_block(await read_status(fleet)))
                await asyncio.sleep(interval)

    seen = session.run(
        again_and_again if watch else read_status,
        accept_new=accept_new,
        connect_timeout=timeout,
        # A login is several round trips and some work on both sides; 50 at once wait for each other here.
        login_timeout=3 * timeout,
        watched=False,
    )
    screen.show(status_block(seen))
    screen.document(describe_status(seen))
    show_failures(screen, seen.hosts)
    return exit_status(seen.hosts) or int(not all(host.working for host in values(seen.hosts).values()))
