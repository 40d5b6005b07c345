from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.errors import UsageError
from olladist.inventory.destination import Destination, parse_destination
from olladist.inventory.model import Connection
from olladist.inventory.parse import parse
from olladist.inventory.write import host_names, init_text


def read(*destinations: str) -> list[Destination]:
    return [parse_destination(text) for text in destinations]


def test_destinations_become_hosts() -> None:
    """Each with what was said of it, and no more: the rest is ~/.ssh/config's."""
    text = init_text(read("ops@gpu1.example.com:2222", "gpu2", "root@[2001:db8::1]:22"), "lab")
    hosts = parse(text, Path("inventory.toml")).hosts

    assert [(h.name, h.address, h.user, h.port) for h in hosts.values()] == [
        ("gpu1", "gpu1.example.com", "ops", 2222),
        ("gpu2", "gpu2", None, None),
        ("host-2001-db8-1", "2001:db8::1", "root", 22),
    ]


def test_names_are_made_different() -> None:
    """First the short name, then the whole one, then a number; in any case of the letters."""
    destinations = read("gpu1.a", "gpu1.b", "GPU1", "198.51.100.7", "x:1", "x:2", "x:3")

    assert host_names(destinations) == ["gpu1", "gpu1-b", "GPU1-2", "host-198-51-100-7", "x", "x-2", "x-3"]


def test_the_same_machine_twice_is_refused() -> None:
    """Port 22 and no port are the same, and so are letters of either case."""
    with pytest.raises(UsageError, match="gpu1 and ops@GPU1:22 are the same machine"):
        init_text(read("gpu1", "ops@GPU1:22"))


def test_without_destinations_it_is_this_machine() -> None:
    """The file parses, so that the next command works."""
    hosts = parse(init_text([]), Path("inventory.toml")).hosts

    assert [(h.name, h.connection) for h in hosts.values()] == [("local", Connection.LOCAL)]


def test_every_comment_can_be_uncommented() -> None:
    """What the file shows in comments is accepted as it stands."""
    _, lines = init_text(read("gpu1", "gpu2")).split("\n\n", 1)
    shown = "\n".join(line.removeprefix("# ") for line in lines.splitlines())

    inventory = parse(shown, Path("inventory.toml"))

    assert [len(host.instances) for host in inventory.hosts.values()] == [2, 2]
    assert [str(model.name) for model in inventory.models] == ["llama3.2:3b"]


hosts = st.from_regex(r"[a-z0-9_][a-zA-Z0-9_.-]{0,60}", fullmatch=True) | st.ip_addresses().map(str)
users = st.none() | st.from_regex(r"[a-z_][a-z0-9_\\.-]{0,10}", fullmatch=True)


@given(
    st.lists(
        st.builds(Destination, hosts, users, st.none() | st.integers(1, 65535)),
        unique_by=lambda d: (d.host.lower(), d.port or 22),
        max_size=12,
    ),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
)
def test_any_destinations_make_an_inventory(destinations: list[Destination], name: str) -> None:
    """The text parses, and its hosts are the destinations in their order."""
    inventory = parse(init_text(destinations, name), Path("inventory.toml"))

    assert inventory.name == name
    if destinations:
        assert [Destination(h.address, h.user, h.port) for h in inventory.hosts.values()] == destinations
