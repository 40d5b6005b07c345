"""How much a worker takes on at once: connections, in all and from each address, and bytes of request bodies. Plain counting."""

from collections import Counter
from ipaddress import IPv6Address, ip_address
from typing import Final

# Of those over the bound so many are told why; a flood is not worth the 2 s that this takes.
TOLD_MAX: Final = 64

# For listening, logs, libraries, lease.sock and idle connections to backends.
KEPT_DESCRIPTORS: Final = 128

FULL: Final = (503, "the gateway has as many connections as it takes, please try again")
FULL_FOR_ADDRESS: Final = (429, "too many connections from your address, please close some")


def affordable(wanted: int, descriptors: int) -> int:
    """How many clients fit into a limit of descriptors: each takes one and its backend another; the rest is for idle backends."""
    return min(wanted, max(1, (descriptors - KEPT_DESCRIPTORS) // 2))


class Connections:
    def __init__(self, most: int, most_per_address: int) -> None:
        self._most = most
        self._most_per_address = most_per_address
        self._by_address: Counter[str] = Counter()
        self.all = 0

    def enter(self, peer: str) -> tuple[int, str] | None:
        """Counts one more; a status and a text where it is one too many. Each call ends in one of `leave`."""
        self.all += 1
        if self._most_per_address:
            address = network(peer)
            self._by_address[address] += 1
            if self._by_address[address] > self._most_per_address:
                return FULL_FOR_ADDRESS
        return FULL if self.all > self._most else None

    def leave(self, peer: str) -> None:
        self.all -= 1
        if self._most_per_address:
            address = network(peer)
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]

    @property
    def can_tell(self) -> bool:
        """Whether one that is turned away may stay until it has read why."""
        return self.all <= self._most + TOLD_MAX


def network(peer: str) -> str:
    """What counts as one address: of IPv6 the first half, for anybody has 2**64 of the rest."""
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if not isinstance(address, IPv6Address):
        return peer
    return str(address.ipv4_mapped or IPv6Address(int(address) >> 64 << 64))


class Bodies:
    """Bytes of request bodies in memory; what is streamed on is not counted."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.held = 0

    def take(self, size: int) -> bool:
        """Counts `size` bytes more, or none where they do not fit."""
        if self.held + size > self._most:
            return False
        self.held += size
        return True

    def release(self, size: int) -> None:
        self.held -= size


class Stall:
    """Finds who reads nothing of what lies ready: its size does not change from one look to the next."""

    __slots__ = ("_since", "_unsent")

    def __init__(self) -> None:
        self._unsent = 0
        self._since = 0.0

    def seconds(self, unsent: int, now: float) -> float:
        """How long `unsent` bytes have been waiting."""
        if not unsent or unsent != self._unsent:
            self._unsent, self._since = unsent, now
        return now - self._since


class Pace:
    """Finds a body that comes, but so slowly that it only holds a connection."""

    __slots__ = ("_bytes", "_since")

    def __init__(self, now: float) -> None:
        self._bytes = 0
        self._since = now

    def came(self, size: int) -> None:
        self._bytes += size

    def is_slow(self, rate: int, seconds: float, now: float) -> bool:
        """Whether fewer than `rate` bytes a second have come in the `seconds` that end now; judged once in each `seconds`."""
        if now - self._since < seconds:
            return False
        slow = self._bytes < rate * (now - self._since)
        self._bytes, self._since = 0, now
        return slow
