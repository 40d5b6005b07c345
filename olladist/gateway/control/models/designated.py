"""The one node for what must always go to the same: it holds the key and the sign-in for ollama.com."""

from collections.abc import Mapping

from olladist.gateway.control.backends import LOCAL_ID, Role
from olladist.gateway.control.declared import Declared
from olladist.gateway.control.roster import Roster


def designated(roster: Roster, declared: Declared) -> int | None:
    """Its number, whatever its state: the local Ollama where that is the mode's first choice; None where there is no node at all."""
    if roster.serving.order[0] is Role.LOCAL:
        return LOCAL_ID if LOCAL_ID in roster.backends else None
    hosts = {number: backend.host.name for number, backend in roster.nodes.items()}
    return choose(hosts, declared.inventory.gateway.cloud)


def choose(hosts: Mapping[int, str], cloud: str | None) -> int | None:
    """Pure: the first Ollama of the host that the inventory names, else of the first host. `hosts` is in the order of the inventory.

    A host that is named and is not there (--limit) has no stand-in: that one would not be signed in.
    """
    wanted = [number for number, host in hosts.items() if cloud is None or host == cloud]
    return wanted[0] if wanted else None
