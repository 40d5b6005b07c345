from pathlib import Path

import pytest

from olladist.gateway.control.backends import backends_of
from olladist.inventory.model import Connection, Host, Instance, Transport

TUNNELS = Path("/run/x/tunnels")
GPU1 = Host(name="gpu1", address="198.51.100.11", env={"OLLAMA_NUM_PARALLEL": "4"})
TWO = Host(
    name="two",
    address="2001:db8::5",
    instances=(Instance(port=11434), Instance(port=11435, env={"OLLAMA_NUM_PARALLEL": "2"})),
)
HERE = Host(name="here", address="localhost", connection=Connection.LOCAL)


def test_through_tunnels_every_instance_is_a_socket() -> None:
    """Each instance has its own socket, and its Host header is the loopback address that its Ollama accepts."""
    backends = backends_of([GPU1, TWO], Transport.TUNNEL, TUNNELS, {})

    assert [(b.id, b.node, b.address, b.url, b.way) for b in backends] == [
        (0, "gpu1", "unix:/run/x/tunnels/0.sock", "http://127.0.0.1:11434", "tunnel"),
        (1, "two:11434", "unix:/run/x/tunnels/1.sock", "http://127.0.0.1:11434", "tunnel"),
        (2, "two:11435", "unix:/run/x/tunnels/2.sock", "http://127.0.0.1:11435", "tunnel"),
    ]


def test_directly_the_host_is_reached_at_its_address() -> None:
    """IPv6 addresses are put in brackets."""
    backends = backends_of([GPU1, TWO], Transport.DIRECT, TUNNELS, {})

    assert [(b.address, b.url, b.way, b.tunnel) for b in backends] == [
        ("198.51.100.11:11434", "http://198.51.100.11:11434", "direct", None),
        ("[2001:db8::5]:11434", "http://[2001:db8::5]:11434", "direct", None),
        ("[2001:db8::5]:11435", "http://[2001:db8::5]:11435", "direct", None),
    ]


@pytest.mark.parametrize("transport", list(Transport))
def test_this_machine_needs_no_tunnel(transport: Transport) -> None:
    """A local instance is at its port on loopback, whatever the transport."""
    (backend,) = backends_of([HERE], transport, TUNNELS, {})

    assert (backend.address, backend.way) == ("127.0.0.1:11434", "local")


def test_slots_are_what_the_instance_is_set_to() -> None:
    """OLLAMA_NUM_PARALLEL of the instance, else of the host, else Ollama's default."""
    assert [b.slots for b in backends_of([GPU1, TWO], Transport.TUNNEL, TUNNELS, {})] == [4, 1, 2]


def test_ids_are_never_used_again() -> None:
    """A node keeps its id over a reload; a new one gets one that nobody had."""
    ids = {"gpu1": 3, "gone": 8}

    assert [(b.node, b.id) for b in backends_of([HERE, GPU1], Transport.TUNNEL, TUNNELS, ids)] == [
        ("here", 9),
        ("gpu1", 3),
    ]
