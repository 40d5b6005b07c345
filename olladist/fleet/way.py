"""The first metres of the way to a host: its name, and whether anybody answers on its port."""

import asyncio
import os
import socket
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Way:
    """`address` and `port` are those of the machine that we speak to ourselves: the host, or its first bastion.

    `addresses` is what the name resolved to. A problem is "" where there is none.
    """

    address: str
    port: int
    addresses: tuple[str, ...] = ()
    dns_problem: str = ""
    tcp_problem: str = ""


async def look(address: str, port: int, *, timeout: float) -> Way:
    """Resolves the name and opens a TCP connection, each within `timeout` seconds."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            found = await loop.getaddrinfo(address, port, type=socket.SOCK_STREAM)
    except TimeoutError:
        return Way(address, port, dns_problem=f"no name server answered within {timeout:g} s")
    except OSError as error:
        return Way(address, port, dns_problem=error.strerror or str(error))
    addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(address, port)
    except TimeoutError:
        return Way(address, port, addresses, tcp_problem=f"no answer within {timeout:g} s")
    except OSError as error:
        # asyncio puts words of its own into strerror.
        return Way(address, port, addresses, tcp_problem=os.strerror(error.errno) if error.errno else str(error))
    writer.close()
    return Way(address, port, addresses)
