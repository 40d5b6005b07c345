"""The first metres of the way to a host."""

import asyncio

from olladist.fleet.way import look
from tests.fleet.fleets import closed_port


async def test_a_port_that_answers() -> None:
    """No problem, and the addresses of the name."""
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        way = await look("127.0.0.1", server.sockets[0].getsockname()[1], timeout=5)

    assert (way.addresses, way.dns_problem, way.tcp_problem) == (("127.0.0.1",), "", "")


async def test_a_port_that_refuses() -> None:
    """The name was resolved, the port was not reached."""
    way = await look("127.0.0.1", closed_port(), timeout=5)

    assert way.dns_problem == ""
    assert "refused" in way.tcp_problem.lower()


async def test_a_name_that_does_not_exist() -> None:
    """RFC 6761 keeps .invalid from ever being one; nothing further is tried."""
    way = await look("nobody.invalid", 22, timeout=20)

    assert way.dns_problem
    assert way.tcp_problem == ""
