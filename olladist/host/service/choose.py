"""The service of a mode, and all that may be ours on a host."""

from collections.abc import Iterator
from typing import TypeAlias

from olladist.host.desired import Desired, home_prefix
from olladist.host.found import Facts
from olladist.host.service.detached import Supervised
from olladist.host.service.state import State
from olladist.host.service.system import SYSTEM
from olladist.host.service.systemd import Systemd
from olladist.host.service.user import user_service
from olladist.inventory.model import Service

AnyService: TypeAlias = Systemd | Supervised


def service_for(facts: Facts, desired: Desired) -> AnyService:
    if desired.mode is Service.SYSTEM:
        return SYSTEM
    if desired.mode is Service.USER:
        return user_service(facts)
    return Supervised(desired.prefix)


def our_services(facts: Facts, desired: Desired) -> Iterator[AnyService]:
    """Where something may stand that is this host's to change: in the login user's home, whatever the mode is now.

    What belongs to the machine is touched only where the inventory means the system service: the same machine may be
    somebody else's host too.
    """
    if desired.mode is Service.SYSTEM:
        yield SYSTEM
    if facts.user_systemd:
        yield user_service(facts)
    yield Supervised(home_prefix(facts))


def states(facts: Facts, desired: Desired) -> dict[int, State]:
    """What each server of a host is doing, by its port."""
    service = service_for(facts, desired)
    if isinstance(service, Systemd):
        return {server.port: service.state(facts, server.name) for server in desired.servers}
    return {server.port: service.state(facts, server.port) for server in desired.servers}


def logs_command(facts: Facts, desired: Desired, *, lines: int = 100, follow: bool = False) -> tuple[str, bool]:
    """A script that prints the log of a host's servers, and whether it must run as root."""
    service = service_for(facts, desired)
    if isinstance(service, Systemd):
        scripts = [service.logs(server.name, lines=lines, follow=follow) for server in desired.servers]
    else:
        scripts = [service.logs(server.port, lines=lines, follow=follow) for server in desired.servers]
    # Followed logs of several servers run side by side and end together.
    script = " & ".join(scripts) + " & wait" if follow and len(scripts) > 1 else "\n".join(scripts)
    return script, service.root
