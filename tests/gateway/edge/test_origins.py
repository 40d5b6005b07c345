"""What a real Ollama 0.17.4 on 127.0.0.1 of a machine called `vm` has answered, request by request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.edge.origins import Hosts, Origins, is_foreign, split_port

MORE = ("chrome-extension://*", "https://*.example.com", "http://plain.example", "http://x*y")
FIELDS = "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta"


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost", "http://localhost:3000", "https://localhost:1", "http://127.0.0.1:9", "https://127.0.0.1", "http://0.0.0.0:80",
        "app://x", "app://", "file://x", "file://", "tauri://localhost", "vscode-webview://abc", "vscode-file://x", "http://localhost:",
        "http://localhost:3000x", "http://localhost:3000@evil.com",
    ],
)  # fmt: skip
def test_pages_of_this_machine_may_ask(origin: str) -> None:
    """And apps that are pages; each is told so by its own name."""
    origins = Origins()

    assert origins.allows(origin.encode())
    assert origins.fields(origin.encode()) == f"Access-Control-Allow-Origin: {origin}\r\nVary: Origin\r\n".encode()


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example", "null", "HTTP://LOCALHOST", "http://localhost.evil.com", "chrome-extension://abc", "moz-extension://abc",
        "safari-extension://x", "ms-browser-extension://x", "http://[::1]:3", "http://localhost@evil.com", "http://localhost/x",
        "http://192.168.1.1",
    ],
)  # fmt: skip
def test_other_pages_may_not(origin: str) -> None:
    """Ollama answers them 403; a scheme in upper case is not one that a browser sends."""
    assert not Origins().allows(origin.encode())


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://evil.example", False),
        ("http://localhost", True),
        ("chrome-extension://abc", True),
        ("chrome-extension://", True),
        ("http://a.example.com", False),
        ("https://a.example.com", True),
        ("http://example.com", False),
        ("http://plain.example", True),
        ("http://plain.example:80", False),
        ("HTTP://PLAIN.example", False),
        ("http://xmid.y", True),
        ("http://x..y", True),
        ("null", False),
    ],
)
def test_more_pages_are_let_in_by_the_operator(origin: str, *, allowed: bool) -> None:
    """Exactly, or with one * at the start, in the middle or at the end."""
    assert Origins(MORE).allows(origin.encode()) is allowed


def test_a_star_lets_in_every_page() -> None:
    """And says so to all of them alike, so that caches need not tell them apart."""
    origins = Origins(("*",))

    assert origins.allows(b"http://evil.example")
    assert origins.allows(b"null")
    assert origins.fields(b"http://evil.example") == b"Access-Control-Allow-Origin: *\r\n"
    assert b"Vary" not in origins.preflight(b"http://evil.example")


def test_a_browser_is_told_what_it_may_send() -> None:
    """The header fields of a preflight's answer."""
    lines = Origins().preflight(b"http://localhost:3000").decode().split("\r\n")

    assert lines[0].startswith(f"Access-Control-Allow-Headers: {FIELDS},X-Stainless-Arch,")
    assert lines[1:] == [
        "Access-Control-Allow-Methods: GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS",
        "Access-Control-Max-Age: 43200",
        "Access-Control-Allow-Origin: http://localhost:3000",
        "Vary: Origin",
        "Vary: Access-Control-Request-Method",
        "Vary: Access-Control-Request-Headers",
        "",
    ]


def test_the_gateways_own_pages_are_no_strangers() -> None:
    """Whatever its name and port are."""
    assert not is_foreign(b"http://fleet:8080", b"fleet:8080")
    assert not is_foreign(b"https://fleet", b"fleet")
    assert not is_foreign(b"", b"fleet")
    assert is_foreign(b"http://fleet", b"fleet:8080")


NEAR = [
    "127.0.0.1", "127.0.0.1:1", "127.0.0.1:", "localhost", "LOCALHOST", "localhost:1", "LOCALHOST:1", "localhost:", "localhost:abc", "",
    ":80", "[]:80", "[localhost]:80", "x.local", "x.localhost", "x.internal", "x.LOCAL", "a.b.local", ".local", "x.local:80",
    "x.local.local:1", "192.168.0.1", "192.168.0.1:99999", "10.1.1.1", "172.16.0.1", "[::1]:11434", "::1", "0.0.0.0", "198.18.0.1", "vm",  # noqa: S104  a Host, no address to listen on
    "vm:80", "VM", "[::ffff:127.0.0.1]:80", "[::ffff:10.0.0.1]:80", "[fd00::1]:80", "fd00::1", "[::]:80", "::", "[::1%lo]:80",
]  # fmt: skip
FAR = [
    "localhost.", "evil.com", "evil.com:80", "local", "internal", "172.32.0.1", "8.8.8.8", "8.8.8.8:80", "[::1]", "[fe80::1]", "[fd00::1]",
    "[2001:db8::1]", "169.254.1.1", "vm.", "127.1", "127.0.0.1.", "[::ffff:127.0.0.1]", "100.64.0.1", "x.local.", "a:b:c", "[::1", "224.0.0.1",
    "[::]", "[fe80::1%25lo]", "[::ffff:8.8.8.8]:80", "[fe80::1]:80", "x[y]:80", "127.0.0.1:80:90", "010.0.0.1", "10.0.0.01", "256.1.1.1",
    "0x7f.1", "%6cocalhost", "a,b",
]  # fmt: skip


def hosts() -> Hosts:
    return Hosts("vm", lambda address: address == "198.18.0.1")


@pytest.mark.parametrize("host", NEAR)
def test_names_of_this_machine_are_answered(host: str) -> None:
    """Loopback, private and own addresses; localhost, the hostname, and names that no registry gives away."""
    assert hosts().allow(host.encode())


@pytest.mark.parametrize("host", FAR)
def test_other_names_are_not(host: str) -> None:
    """A page may have made them lead here."""
    assert not hosts().allow(host.encode())


@given(st.binary(max_size=40))
def test_every_host_has_an_answer(host: bytes) -> None:
    """Whatever stands there."""
    assert hosts().allow(host) in {True, False}
    assert split_port(host.decode("latin-1")) in host.decode("latin-1")
