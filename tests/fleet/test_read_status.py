"""Asking hosts how they do, for real."""

import asyncio
from dataclasses import replace

from olladist.errors import HostError
from olladist.fleet.status import HostStatus, read_status
from olladist.inventory.model import Instance, Inventory
from tests.fleet.fleets import closed_port, local, opened


def here(*ports: int) -> Inventory:
    found = local("here")
    host = replace(found.hosts["here"], instances=tuple(Instance(port) for port in ports))
    return replace(found, hosts={"here": host})


async def status_of(found: Inventory) -> HostStatus:
    async with opened(found) as fleet:
        status = (await read_status(fleet)).hosts["here"]
    assert not isinstance(status, HostError)
    return status


async def test_a_port_on_which_nobody_listens() -> None:
    """The host was reached, its Ollama was not; it is not set up either."""
    [server] = (await status_of(here(closed_port()))).servers

    assert (server.state, server.version) == ("not installed", "")
    assert "no answer" in server.problem


async def test_two_servers_are_asked_and_one_that_is_no_ollama_is_told() -> None:
    """What answers on its port is not what should."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        first, second = (await status_of(here(server.sockets[0].getsockname()[1], closed_port()))).servers

    assert "not an Ollama" in first.problem
    assert "no answer" in second.problem
