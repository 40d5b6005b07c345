"""Fleets of this machine for tests: hosts without SSH, and hosts that nobody answers for."""

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from olladist.fleet.events import Event
from olladist.fleet.open import Fleet, open_fleet
from olladist.inventory.model import Connection, Host, Inventory
from olladist.inventory.parse import parse
from olladist.ssh.prompts import NO_PROMPTS


def inventory(text: str, folder: Path = Path("/nowhere")) -> Inventory:
    return parse('[fleet]\nname = "test"\n' + text, folder / "inventory.toml")


def local(*names: str) -> Inventory:
    """Hosts that all are this machine, which no inventory file may say."""
    hosts = {name: Host(name, "localhost", Connection.LOCAL) for name in names}
    return Inventory(Path("/nowhere/inventory.toml"), "test", hosts, {})


def closed_port() -> int:
    """A port of the loopback that refuses connections."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def opened(found: Inventory, events: list[Event] | None = None, only: Sequence[str] = ()) -> AsyncIterator[Fleet]:
    hosts = [host for name, host in found.hosts.items() if not only or name in only]
    seen: list[Event] = [] if events is None else events
    async with open_fleet(found, hosts, prompts=NO_PROMPTS, watch=seen.append, connect_timeout=5) as fleet:
        yield fleet
