import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.errors import Unreachable
from olladist.ssh.dial import TryAgain, _Place, dial


async def call(address: str, port: int = 22, timeout: float = 5) -> socket.socket:
    return await dial("gpu1", "connecting to gpu1", address, port, timeout)


async def test_it_connects_to_addresses_and_names(listening: Any) -> None:
    """A name with several addresses is tried until one answers (localhost is ::1 as well)."""

    async def nothing(*_: object) -> None:
        pass

    async with listening(nothing) as server:
        for address in ("127.0.0.1", "localhost"):
            with await call(address, server.port) as sock:
                assert sock.getpeername() == ("127.0.0.1", server.port)
                assert not sock.getblocking()


async def test_a_closed_port_is_refused() -> None:
    """Who refuses is up; the hint is about its sshd."""
    with pytest.raises(Unreachable, match=r"gpu1: 127.0.0.1 port 1 refused the connection") as caught:
        await call("127.0.0.1", 1)

    assert "is sshd running there?" in caught.value.hint


@pytest.mark.parametrize("name", ["no-such-host.invalid", "a" * 70 + ".example", "a b", "..", "ä" * 80])
async def test_a_name_that_is_none_is_told(name: str) -> None:
    """DNS says no, or it is no name at all."""
    with pytest.raises(Unreachable, match=r"gpu1: .*(cannot resolve|is not a host name)"):
        await call(name)


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (OSError(113, "No route to host"), Unreachable, "there is no way to"),
        (OSError(110, "Connection timed out"), Unreachable, "no answer from"),
        (OSError(1, "Operation not permitted"), Unreachable, "Operation not permitted"),
        (ConnectionResetError(104, "Connection reset by peer"), TryAgain, "closed the connection"),
    ],
)
def test_every_failure_has_words(error: OSError, kind: type[Unreachable], says: str) -> None:
    """Also those that no test machine produces at will."""
    told = _Place("gpu1", "connecting", "198.51.100.11", 22).failed(error)

    assert type(told) is kind
    assert says in told.message
    assert "198.51.100.11" in told.message


def test_a_resolver_that_is_busy_is_asked_again() -> None:
    """Bursts of lookups are dropped by some resolvers; that is no wrong name."""
    place = _Place("gpu1", "connecting", "gpu1.example", 22)

    assert type(place.nameless(socket.gaierror(socket.EAI_AGAIN, "Temporary failure"))) is TryAgain
    assert type(place.nameless(socket.gaierror(socket.EAI_NONAME, "Name or service not known"))) is Unreachable


@given(st.integers(0, 200), st.text(max_size=20))
def test_no_errno_escapes(number: int, text: str) -> None:
    """Any OSError becomes an Unreachable that names the host."""
    assert _Place("gpu1", "connecting", "a", 22).failed(OSError(number, text)).host == "gpu1"


async def test_nothing_is_left_open_after_a_failure() -> None:
    """A refused socket is closed."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        with pytest.raises(Unreachable):
            await call("127.0.0.1", 1)

    assert len(list(Path("/proc/self/fd").iterdir())) == before
