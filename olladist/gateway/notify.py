"""Tells systemd how we do, where it wants to know: sd_notify(3) by hand, which is one datagram."""

import contextlib
import socket
from collections.abc import Mapping


def notify(state: str, environ: Mapping[str, str]) -> None:
    """Sends `state` ("READY=1", "STOPPING=1") to whoever started us with NOTIFY_SOCKET; to nobody where there is none."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        # "@" stands for the NUL of an abstract address.
        out.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
