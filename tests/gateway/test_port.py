import os
import socket

import pytest

from olladist.errors import GatewayError
from olladist.gateway.port import listener, reserve


def test_a_port_is_kept_for_those_who_share_it() -> None:
    """Port 0 becomes a number; sharing sockets can listen on it; one that does not share cannot have it."""
    kept = reserve("127.0.0.1", 0)
    address = kept.getsockname()
    with kept, socket.socket() as worker, socket.socket() as stranger, socket.socket() as client:
        worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        worker.bind(address)
        worker.listen()
        with pytest.raises(OSError, match="in use"):
            stranger.bind(address)
        # The kept socket does not listen, so every connection goes to the worker.
        client.connect(address)
        worker.accept()[0].close()


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
