"""Whether others than this machine's own users can reach the gateway, and whether that is meant."""

import socket
from ipaddress import ip_address

from olladist.errors import UsageError


def is_loopback(host: str) -> bool:
    """Whether all that `host` stands for is reachable from this machine alone; a name that leads nowhere is not."""
    try:
        found = socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        return False
    return all(ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)


def is_own_address(address: str) -> bool:
    """Whether one of this machine's interfaces has it: only then can a socket be bound to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def check_exposure(host: str, *, keyed: bool, insecure: bool) -> None:
    """Raises UsageError for a gateway that anybody on the network could use: without keys that has to be asked for."""
    if keyed or insecure or is_loopback(host):
        return
    raise UsageError(
        f"listening on {host or 'all addresses'} without API keys would let everybody who reaches it use every model, delete them too",
        hint="declare a key: `olladist proxy key NAME` makes one and shows what to write into the inventory; "
        "or listen on 127.0.0.1 alone; or, where the network itself keeps strangers out, say --insecure",
    )
