"""A TCP connection to an sshd, with every way that it can fail put into words."""

import asyncio
import errno
import ipaddress
import socket
from dataclasses import dataclass

from olladist.errors import Unreachable


class TryAgain(Unreachable):
    """It may go well in a moment: a busy resolver, an sshd at its MaxStartups."""


@dataclass(frozen=True, slots=True)
class _Place:
    host: str
    during: str
    address: str
    port: int

    def failed(self, error: OSError) -> Unreachable:
        at = f"{self.address} port {self.port}"
        if error.errno == errno.ECONNREFUSED:
            hint = "is sshd running there? another port goes into `port` of the host"
            return Unreachable(self.host, self.during, f"{at} refused the connection", hint=hint)
        if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN):
            hint = "is it switched on, in this network, or behind a jump host (`jump`) or a VPN?"
            return Unreachable(self.host, self.during, f"there is no way to {at}: {error.strerror}", hint=hint)
        if error.errno == errno.ETIMEDOUT:
            return self.silent(None)
        if isinstance(error, ConnectionError):
            return TryAgain(self.host, self.during, f"{at} closed the connection: {error.strerror}")
        return Unreachable(self.host, self.during, f"cannot connect to {at}: {error.strerror or error}")

    def silent(self, seconds: float | None) -> Unreachable:
        within = f" within {seconds:g} s" if seconds else ""
        hint = f"is it switched on? does a firewall drop port {self.port}? is a VPN or a jump host needed?"
        return Unreachable(self.host, self.during, f"no answer from {self.address} port {self.port}{within}", hint=hint)

    def nameless(self, error: socket.gaierror) -> Unreachable:
        cause = f"cannot resolve {self.address!r}: {error.strerror}"
        kind = TryAgain if error.errno == socket.EAI_AGAIN else Unreachable
        hint = f"`getent hosts {self.address}` must find it; is `address` of the host right?"
        return kind(self.host, self.during, cause, hint=hint)


async def dial(host: str, during: str, address: str, port: int, timeout: float) -> socket.socket:
    """A connected socket. The addresses of a name are tried one after the other, each with its share of `timeout`."""
    place = _Place(host, during, address, port)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    try:
        async with asyncio.timeout_at(deadline):
            found = await _addresses(address, port)
    except socket.gaierror as error:
        raise place.nameless(error) from error
    except UnicodeError as error:
        raise Unreachable(
            host, during, f"{address!r} is not a host name", hint="correct `address` of the host"
        ) from error
    except TimeoutError as error:
        cause = f"the name {address!r} was not resolved within {timeout:g} s"
        raise Unreachable(host, during, cause, hint="does the DNS server answer?") from error
    problem: Unreachable = place.silent(timeout)
    for index, (family, where) in enumerate(found):
        share = (deadline - loop.time()) / (len(found) - index)
        try:
            async with asyncio.timeout(share):
                return await _connect(loop, family, where)
        except TimeoutError:
            problem = place.silent(timeout)
        except OSError as error:
            problem = place.failed(error)
    raise problem


async def _addresses(address: str, port: int) -> list[tuple[int, tuple[str, int]]]:
    """Families and addresses of a name; what is an address already asks no resolver (and so needs no thread)."""
    try:
        number = ipaddress.ip_address(address)
    except ValueError:
        found = await asyncio.get_running_loop().getaddrinfo(address, port, type=socket.SOCK_STREAM)
        return [(family, where) for family, _, _, _, where in found]  # type: ignore[misc]  # stubs allow AF_UNIX here
    return [(socket.AF_INET if number.version == 4 else socket.AF_INET6, (address, port))]


async def _connect(loop: asyncio.AbstractEventLoop, family: int, where: tuple[str, int]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, where)
    except BaseException:
        sock.close()
        raise
    return sock
