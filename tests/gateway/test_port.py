import contextlib
import os
import socket
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.errors import GatewayError
from olladist.gateway.port import dealt, listener, reserve


def test_workers_share_a_port_that_nobody_else_can_have() -> None:
    """Port 0 becomes one number for all; a socket that does not share cannot have it, also while nobody listens yet."""
    kept = reserve("127.0.0.1", 0, 3)
    addresses = {sock.getsockname() for sock in kept}
    assert len(addresses) == 1
    assert len(kept) == (3 if sys.platform == "linux" else 1)
    with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
        stranger.bind(kept[0].getsockname())
    with socket.socket() as client, contextlib.closing(kept[0]) as worker:
        worker.listen()
        # The others do not listen, so every connection goes to this one.
        client.connect(worker.getsockname())
        worker.accept()[0].close()
    for sock in kept:
        sock.close()


@given(st.integers(1, 20), st.integers(1, 20))
def test_every_socket_is_dealt_to_somebody_and_everybody_has_one(sockets: int, workers: int) -> None:
    """Whatever the numbers are: a queue that nobody reads would lose its connections."""
    hands = dealt(range(sockets), workers)

    assert len(hands) == workers
    assert all(hands)
    assert {sock for hand in hands for sock in hand} == set(range(sockets))


@pytest.mark.parametrize("shares", [True, False])
def test_a_port_that_somebody_listens_on_is_refused_by_name(*, shares: bool) -> None:
    """Even where the other would share it, as another gateway of the same user does; the message says who it is."""
    with socket.socket() as other:
        if shares:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(GatewayError) as error:
            reserve("127.0.0.1", port)

    assert f"127.0.0.1:{port}" in error.value.message
    assert f"(pid {os.getpid()})" in error.value.message
    assert "--listen" in error.value.hint


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    """With what to do about it."""
    with pytest.raises(GatewayError) as error:
        reserve(host, 0)

    assert host in error.value.message
    assert "--listen" in error.value.hint


def test_nobody_listens_on_a_free_port() -> None:
    """No name is made up."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))

        assert listener(bound.getsockname()[1]) == ""
