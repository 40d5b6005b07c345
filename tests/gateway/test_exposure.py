from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from olladist.errors import GatewayError, UsageError
from olladist.gateway.exposure import check_exposure, is_loopback, is_own_address
from olladist.gateway.opening import with_door
from olladist.gateway.settings import Settings
from olladist.inventory.model import ApiKey, Gateway
from tests.gateway.certificates import make_pair

EVERYWHERE = Settings("", "", listen_host="0.0.0.0")  # noqa: S104  nothing listens: it is judged
KEY = ApiKey("team", sha256="a" * 64)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1"])
def test_loopback_is_this_machine_alone(host: str) -> None:
    """By address or by name; no key is needed there."""
    assert is_loopback(host)
    check_exposure(host, keyed=False, insecure=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "no-such-name.invalid"])  # noqa: S104  as above
def test_all_else_needs_keys_or_to_be_asked_for(host: str) -> None:
    """What can be done about it is said: a key, another address, or --insecure."""
    assert not is_loopback(host)
    with pytest.raises(UsageError) as refused:
        check_exposure(host, keyed=False, insecure=False)

    for way in ("olladist proxy key", "127.0.0.1", "--insecure"):
        assert way in refused.value.hint
    check_exposure(host, keyed=True, insecure=False)
    check_exposure(host, keyed=False, insecure=True)


def test_own_addresses_are_known() -> None:
    """By what a socket can be bound to; 192.0.2.1 is nobody's (RFC 5737)."""
    assert is_own_address("127.0.0.1")
    assert not is_own_address("192.0.2.1")
    assert not is_own_address("2001:db8::1")
    assert not is_own_address("nonsense")


def test_a_door_opens_with_keys_and_a_certificate(tmp_path: Path) -> None:
    """The settings say where TLS is; without it they stay as they are."""
    cert, key = make_pair(tmp_path)

    assert with_door(EVERYWHERE, Gateway(keys=(KEY,)), {}) == EVERYWHERE
    opened = with_door(EVERYWHERE, Gateway(keys=(KEY,), tls_cert=cert, tls_key=key), {})
    assert (opened.tls_cert, opened.tls_key) == (str(cert), str(key))
    assert opened.address.startswith("https://")


def _no_keys(_folder: Path) -> Gateway:
    return Gateway()


def _missing_key(_folder: Path) -> Gateway:
    return Gateway(keys=(ApiKey("team", variable="NOT_SET"),))


def _missing_certificate(folder: Path) -> Gateway:
    return Gateway(keys=(KEY,), tls_cert=folder / "gone.pem", tls_key=folder / "key.pem")


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (_no_keys, "without API keys would let everybody"),
        (_missing_key, "the variable NOT_SET is not set"),
        (_missing_certificate, "gone.pem cannot be read"),
    ],
)
def test_a_door_stays_shut_with_a_reason(declared: Callable[[Path], Gateway], said: str, tmp_path: Path) -> None:
    """Before anything listens."""
    with pytest.raises((UsageError, GatewayError), match=said) as raised:
        with_door(EVERYWHERE, declared(tmp_path), {})

    assert raised.value.hint
    assert with_door(replace(EVERYWHERE, insecure=True), Gateway(), {}).insecure


def test_the_gateway_of_a_check_has_a_key_of_its_own() -> None:
    """What the inventory says of keys and certificates is not looked at: who checks may not have them."""
    declared = Gateway(keys=(ApiKey("team", variable="NOT_SET"),), tls_cert=Path("/gone"), tls_key=Path("/gone"))
    settings = replace(EVERYWHERE, temporary="a" * 64)

    assert with_door(settings, declared, {}) == settings
