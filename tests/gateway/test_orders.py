"""What is asked of a supervisor, over a real socket."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from olladist.errors import GatewayError
from olladist.gateway.orders import Answer, Order, Process, ask, take, take_orders
from olladist.gateway.port import reserve
from olladist.gateway.running import Running
from tests.gateway.edge.harness import until


@dataclass
class Supervisor:
    """One that has two listening sockets, and writes down what it is told."""

    running: Running
    sockets: Sequence[socket.socket] = field(default_factory=lambda: reserve("127.0.0.1", 0, 2))
    stops: list[bool] = field(default_factory=list)
    times_replaced: int = 0

    def processes(self) -> tuple[Process, ...]:
        return (Process("control", 7), Process("edge 1", 0))

    async def stop(self, *, now: bool) -> int:
        self.stops.append(now)
        return 3

    def replaced(self) -> None:
        self.times_replaced += 1


@contextlib.asynccontextmanager
async def supervisor() -> AsyncIterator[Supervisor]:
    with TemporaryDirectory(prefix="orders-") as scratch:
        running = Running(
            pid=1, url="http://x", host="127.0.0.1", port=1, run_dir=scratch, inventory="i", since=0.0, version="1"
        )
        one = Supervisor(running)
        path = Path(running.settings.supervisor_socket)
        taking = asyncio.create_task(take_orders(path, one))
        await until(path.exists, "it takes orders")
        try:
            yield one
        finally:
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)
            for listening in one.sockets:
                listening.close()


async def test_orders_are_answered() -> None:
    """Its processes, and how many answers a stop has cut; nobody but its own user may open the socket."""
    async with supervisor() as one:
        assert Path(one.running.settings.supervisor_socket).stat().st_mode & 0o777 == 0o600
        assert await ask(one.running, Order("status")) == Answer(processes=one.processes())
        assert await ask(one.running, Order("stop", now=True)) == Answer(cut=3)
        assert one.stops == [True]
        with pytest.raises(GatewayError, match="nothing has been taken over"):
            await ask(one.running, Order("serving"))


async def test_the_sockets_are_handed_over_open() -> None:
    """The taker's are the same sockets: who connects is accepted by either; the first is told once the second serves."""
    async with supervisor() as one:
        taken = await take(one.running)
        assert [s.getsockname() for s in taken.sockets] == [s.getsockname() for s in one.sockets]
        assert one.times_replaced == 0
        mine = taken.sockets[0]
        mine.listen()
        for sock in one.sockets:
            sock.close()
        with socket.socket() as client:
            client.connect(mine.getsockname())
            mine.setblocking(True)
            mine.accept()[0].close()

        await taken.serving()

        assert one.times_replaced == 1
        taken.close()
        for sock in taken.sockets:
            sock.close()


async def test_a_taker_that_goes_changes_nothing() -> None:
    """While one is taking over no other can; when it is gone without a word the next one can."""
    async with supervisor() as one:
        first = await take(one.running)
        with pytest.raises(GatewayError, match="taking over already"):
            await take(one.running)

        first.close()
        for sock in first.sockets:
            sock.close()

        async with asyncio.timeout(10):
            second = None
            while second is None:
                with contextlib.suppress(GatewayError):
                    second = await take(one.running)
        assert one.times_replaced == 0
        second.close()
        for sock in second.sockets:
            sock.close()


@pytest.mark.parametrize("line", [b"", b"\n", b"{}\n", b"\xff\xfe\n", b'{"do":"dance"}\n', b"x" * 10_000])
async def test_what_is_no_order_ends_the_connection(line: bytes) -> None:
    """And nothing else: the next one is answered."""
    async with supervisor() as one:
        reader, writer = await asyncio.open_unix_connection(one.running.settings.supervisor_socket)
        writer.write(line)
        writer.write_eof()
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()

        assert (await ask(one.running, Order("status"))).processes


async def test_a_gateway_that_cannot_be_asked_is_an_error() -> None:
    """With its process, for whoever wants to end it."""
    async with supervisor() as one:
        pass
    with pytest.raises(GatewayError, match=r"pid 1") as error:
        await ask(one.running, Order("status"))
    assert "kill 1" in error.value.hint
