from pathlib import Path

import pytest

from olladist.gateway.control.backends import CACHE_ID, LOCAL_ID, Role, backends_of, cache_row, local_backend
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


@pytest.mark.parametrize(
    ("url", "address", "port"),
    [
        ("http://127.0.0.1:11435", "127.0.0.1:11435", 11435),
        ("http://[::1]:80", "[::1]:80", 80),
        ("http://ollama.example:11434", "ollama.example:11434", 11434),
    ],
)
def test_the_ollama_beside_the_gateway(url: str, address: str, port: int) -> None:
    """It is reached directly, at its URL, and is no node of the fleet."""
    local = local_backend(url, ["gpu1"])

    assert (local.id, local.node, local.address, local.port, local.url) == (LOCAL_ID, "local", address, port, url)
    assert (local.role, local.way, local.tunnel) == (Role.LOCAL, "local", None)


def test_a_host_may_be_called_local() -> None:
    """Then the Ollama beside the gateway is shown under a name that no host can have, and so are kept answers."""
    assert local_backend("http://127.0.0.1:1", ["Local", "gpu1"]).node == "local@gateway"
    assert cache_row("/run/x/api.sock", ["cache"]).node == "cache@gateway"
    row = cache_row("/run/x/api.sock", ["local"])
    assert (row.id, row.node, row.address, row.role) == (CACHE_ID, "cache", "unix:/run/x/api.sock", "cache")


def test_nodes_never_get_a_reserved_number() -> None:
    """Though a host comes that is called like the Ollama beside the gateway."""
    host = Host(name="local", address="198.51.100.1")

    (backend,) = backends_of([host], Transport.DIRECT, TUNNELS, {"local": LOCAL_ID, "cache": CACHE_ID, "gpu1": 4})

    assert backend.id == 5
