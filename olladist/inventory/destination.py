"""`[user@]host[:port]`, as ssh, jump hosts and `olladist init` take it."""

import re
from dataclasses import dataclass

# No leading "-": such a host or user would be taken for an option of ssh. A host may be a name, IPv4 or IPv6 with zone.
_HOST = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.:%-]{0,252}")
_USER = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.$+@\\-]{0,63}")
_PORT = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class Destination:
    """None: what ~/.ssh/config or OpenSSH's default says."""

    host: str
    user: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if self.port is not None and ":" in self.host else self.host
        return (f"{self.user}@" if self.user else "") + host + (f":{self.port}" if self.port is not None else "")


def parse_destination(text: str) -> Destination:
    """IPv6 stands in brackets where a port follows, or bare without one; ValueError says what is wrong."""
    user, at, rest = text.rpartition("@")
    if at and not is_user(user):
        raise ValueError(f"{user!r} is not a user name")
    host, port = rest, ""
    if rest.startswith("["):
        host, bracket, port = rest[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise ValueError(f"{text!r} is not [user@]host[:port]")
        port = port[1:] if port else ""
    elif rest.count(":") == 1:
        host, _, port = rest.partition(":")
        if not port:
            raise ValueError(f"{text!r} has a colon but no port after it")
    if not is_host(host):
        raise ValueError(f"{host!r} is not a host name or address")
    if not port:
        return Destination(host, user or None)
    if not (_PORT.fullmatch(port) and 1 <= int(port) <= 65535):
        raise ValueError(f"{port!r} is not a port from 1 to 65535")
    return Destination(host, user or None, int(port))


def is_host(text: str) -> bool:
    return _HOST.fullmatch(text) is not None


def is_user(text: str) -> bool:
    return _USER.fullmatch(text) is not None
