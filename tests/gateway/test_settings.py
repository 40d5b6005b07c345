import msgspec
import pytest

from olladist.gateway.settings import Limits, Settings, decode, encode


def test_settings_cross_stdin_unchanged() -> None:
    """What the supervisor writes is one line, and the child reads the same values from it."""
    settings = Settings("/run/x", "/etc/inventory.toml", "gpu*", "::1", 0, 4, limits=Limits(head=1024))

    line = encode(settings)

    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode(line) == settings


def test_a_line_that_is_no_settings_is_refused() -> None:
    """A child that was started by hand without settings says so instead of running on defaults."""
    with pytest.raises(msgspec.ValidationError):
        decode(b"{}")


def test_the_address_is_a_url_that_clients_can_use() -> None:
    """IPv6 addresses stand in brackets."""
    assert Settings("", "", listen_host="::1", listen_port=80).address == "http://[::1]:80"
    assert Settings("", "").listening_on(5).address == "http://127.0.0.1:5"
