"""`olladist ssh HOST`."""

from typing import Annotated

import typer

from olladist.cli.options import AcceptNew


def ssh(
    context: typer.Context,
    host: Annotated[str, typer.Argument(metavar="HOST", help="The host's name in the inventory.")],
    command: Annotated[
        list[str] | None, typer.Argument(metavar="COMMAND", help="Run this instead of a shell.", show_default=False)
    ] = None,
    accept_new: AcceptNew = False,
) -> int:
    """Open a shell on a host.

    OpenSSH takes over, with the keys, hops and host-key checks of olladist itself.
    """
    from olladist.cli.session import begin
    from olladist.errors import UsageError
    from olladist.fleet.shell import become_shell

    session = begin(context)
    chosen = session.inventory.hosts.get(host)
    if chosen is None:
        names = ", ".join(session.inventory.hosts)
        raise UsageError(f"there is no host {host!r} in {session.inventory.path}", hint=f"the hosts are {names}")
    return session.run(lambda fleet: become_shell(fleet, chosen, command or []), accept_new=accept_new, watched=False)
