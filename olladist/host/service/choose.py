"""The service of a mode, and all that may be ours on a host."""

from collections.abc import Iterator
from typing import TypeAlias

from olladist.host.desired import Desired
from olladist.host.facts import SYSTEM_PREFIX
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
    return Supervised(desired.prefix, root=False)


def all_services(facts: Facts) -> Iterator[AnyService]:
    """Every place in which something of ours may stand, whatever the inventory says now."""
    if facts.init == "systemd":
        yield SYSTEM
    if facts.user_systemd:
        yield user_service(facts)
    for prefix in facts.prefixes:
        yield Supervised(prefix, root=prefix == SYSTEM_PREFIX and facts.uid != 0)


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
