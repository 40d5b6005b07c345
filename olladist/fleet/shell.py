"""`ssh`: the person's own shell on a host, by the way that we have checked."""

import os
from pathlib import Path
from typing import NoReturn

from olladist.errors import HostError
from olladist.fleet.open import Fleet
from olladist.inventory.model import Connection, Host
from olladist.ssh.openssh import NotForOpenSSH

# The configuration was written for this one ssh and goes when it ends. $0 is its directory.
_THEN_CLEAN = '"$@"; status=$?; rm -rf -- "$0"; exit $status'


async def become_shell(fleet: Fleet, host: Host, command: list[str]) -> NoReturn:
    """Replaces this process by ssh to the host, or by a shell where the host is this machine.

    asyncssh logs in first: it asks about an unknown host key and refuses a changed one, and ssh trusts just that key.
    """
    if host.connection is Connection.LOCAL:
        shell = os.environ.get("SHELL") or "/bin/sh"
        os.execvp(shell, [shell, *(["-c", " ".join(command)] if command else [])])  # noqa: S606  becoming it is the point
    link = await fleet.connections.link(host)
    try:
        words = fleet.connections.ways.openssh.command(link, *([] if command else ["-t"]))
    except NotForOpenSSH as error:
        raise HostError(host.name, "opening a shell", str(error), hint="ssh-add your key, then try again") from None
    await link.close()
    directory = str(Path(words[words.index("-F") + 1]).parent)
    os.execv("/bin/sh", ["sh", "-c", _THEN_CLEAN, directory, *words, *command])  # noqa: S606  the same
