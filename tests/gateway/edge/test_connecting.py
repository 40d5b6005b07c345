import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from olladist.gateway.edge.connecting import connect, set_keepalive
from olladist.gateway.edge.upstream import Upstream
from tests.gateway.edge.harness import PROMPT, Gateway, Node, gateway, post, says_who, until


@pytest.fixture
def black_hole() -> Iterator[str]:
    """An address whose connections are never accepted nor refused: its backlog is full (Linux then drops the SYN)."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        yield f"127.0.0.1:{listening.getsockname()[1]}"


async def test_a_host_that_does_not_answer_is_given_up(run_dir: Path, black_hole: str) -> None:
    """After the time for connecting, and the request goes to the next host."""
    async with gateway(run_dir, connect_seconds=0.1) as gate:
        gate.control.nodes.append(Node("gpu1", says_who, address=black_hole))
        await gate.add("gpu2")
        await gate.joined()
        client = await gate.client()
        client.send(post())

        assert await client.answer() == (200, PROMPT)
        await until(lambda: gate.control.outcomes == ["connect", "served"], "both leases end")


async def test_a_client_may_leave_while_its_host_does_not_answer(gate: Gateway, black_hole: str) -> None:
    """The attempt ends with it, and so does the lease."""
    gate.control.nodes.append(Node("gpu1", says_who, address=black_hole))
    await gate.joined()
    client = await gate.client()
    client.send(post())
    await until(lambda: any(backend.running for backend in gate.edge.worker.backends), "it is connecting")

    client.leave()

    await until(lambda: gate.control.outcomes == ["left"], "the lease ends")
    assert gate.control.dones[0].backend == 0
    await until(lambda: not gate.edge.worker._tasks, "nothing goes on connecting")


async def test_a_host_found_down_while_connecting_is_passed_over_at_once(gate: Gateway, black_hole: str) -> None:
    """A new table ends the attempt long before its time is over."""
    gate.control.nodes.append(Node("gpu1", says_who, address=black_hole))
    await gate.add("gpu2")
    await gate.joined()
    client = await gate.client()
    client.send(post())
    await until(lambda: any(backend.running for backend in gate.edge.worker.backends), "it is connecting")

    gate.control.down = {"gpu1"}
    gate.control.push()

    assert await client.answer() == (200, PROMPT)
    await until(lambda: gate.control.outcomes == ["connect", "served"], "both leases end")


async def test_a_backend_behind_a_unix_socket_is_reached(gate: Gateway) -> None:
    """As tunnels are."""
    node = await gate.serve_api(says_who)
    node.name, node.address = "gpu1", f"unix:{gate.settings.api_socket}"
    gate.control.nodes.append(node)
    await gate.joined()
    client = await gate.client()
    client.send(post() * 2)

    assert await client.answer() == (200, PROMPT)
    assert await client.answer() == (200, PROMPT)
    assert len(node.connections) == 1


class Connector:
    def __init__(self) -> None:
        self.reasons: list[str] = []

    def connected(self, upstream: Upstream) -> None:
        raise AssertionError("nobody listens there")

    def connect_failed(self, reason: str) -> None:
        self.reasons.append(reason)


@pytest.mark.parametrize(
    "address", ["unix:/nowhere/at.all", "127.0.0.1:1", "[::1]:1", "no port", "host:noport", "unix:" + "x" * 200]
)
async def test_an_address_that_leads_nowhere_is_a_reason(address: str) -> None:
    """Whatever a table says, the connector hears of it and nothing is raised."""
    connector = Connector()

    await connect(address, Upstream(), connector, 5)

    assert len(connector.reasons) == 1
    assert connector.reasons[0].startswith("no connection")


def test_a_dead_peer_is_noticed_within_twenty_seconds() -> None:
    """Idle, by three probes; with bytes on their way, by the user timeout."""
    with socket.socket() as sock:
        set_keepalive(sock)

        options = [
            sock.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
        ]

    assert options == [5, 5, 3, 15_000]
