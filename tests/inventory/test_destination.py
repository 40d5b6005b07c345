import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.inventory.destination import Destination, parse_destination


@pytest.mark.parametrize(
    ("text", "destination"),
    [
        ("gpu1", Destination("gpu1")),
        ("ops@gpu1.example.com:2222", Destination("gpu1.example.com", "ops", 2222)),
        ("198.51.100.7:22", Destination("198.51.100.7", None, 22)),
        ("[2001:db8::1]:2222", Destination("2001:db8::1", None, 2222)),
        ("[2001:db8::1]", Destination("2001:db8::1")),
        ("root@fe80::1%eth0", Destination("fe80::1%eth0", "root")),
        ("me@corp.example@gpu1", Destination("gpu1", "me@corp.example")),
    ],
)
def test_destinations_are_read(text: str, destination: Destination) -> None:
    """As ssh takes them, with IPv6 in brackets where a port follows."""
    assert parse_destination(text) == destination


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "'' is not a host name or address"),
        ("-oProxyCommand=reboot", "'-oProxyCommand=reboot' is not a host name or address"),
        ("-l@gpu1", "'-l' is not a user name"),
        ("@gpu1", "'' is not a user name"),
        ("gpu1:", "'gpu1:' has a colon but no port after it"),
        ("gpu1:ssh", "'ssh' is not a port from 1 to 65535"),
        ("gpu1:0", "'0' is not a port from 1 to 65535"),
        ("gpu1:65536", "'65536' is not a port from 1 to 65535"),
        ("[::1", "'[::1' is not [user@]host[:port]"),
        ("[::1]22", "'[::1]22' is not [user@]host[:port]"),
        ("gpu 1", "'gpu 1' is not a host name or address"),
        ("gpu1;reboot", "'gpu1;reboot' is not a host name or address"),
    ],
)
def test_what_is_none_is_refused(text: str, problem: str) -> None:
    """Nothing that ssh or a shell would take for something else gets through."""
    with pytest.raises(ValueError, match=r"is not|no port") as caught:
        parse_destination(text)

    assert str(caught.value) == problem


@given(st.text() | st.from_regex(r"(\w+@)?[\w.:\[\]-]+(:\d+)?"))
def test_a_destination_survives_being_written(text: str) -> None:
    """Any text is a destination that reads back as itself, or a ValueError."""
    try:
        destination = parse_destination(text)
    except ValueError:
        return

    assert parse_destination(str(destination)) == destination
    assert not destination.host.startswith("-")
