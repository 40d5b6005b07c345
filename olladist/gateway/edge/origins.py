"""Which web pages may use the gateway, and under which names: Ollama's own rules for Origin and Host. Pure.

server/routes.go of 0.17.4: gin-contrib/cors first, then allowedHostsMiddleware. Both protect people whose browser runs
foreign pages beside an Ollama on this machine: a page says whence it comes (Origin), and a name that was made to lead to
127.0.0.1 (DNS rebinding) is none of ours (Host).
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

# envconfig.AllowedOrigins.
_LOOPBACKS: Final = ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104  a name in an origin; nothing listens there
_DEFAULTS: Final = (
    *(f"{scheme}://{host}{port}" for host in _LOOPBACKS for port in ("", ":*") for scheme in ("http", "https")),
    *("app://*", "file://*", "tauri://*", "vscode-webview://*", "vscode-file://*"),
)
_ALLOWED_FIELDS: Final = (
    "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,X-Stainless-Arch,X-Stainless-Async,"
    "X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,X-Stainless-Lang,X-Stainless-Os,X-Stainless-Package-Version,"
    "X-Stainless-Poll-Helper,X-Stainless-Retry-Count,X-Stainless-Runtime,X-Stainless-Runtime-Version,X-Stainless-Timeout"
)
_PREFLIGHT: Final = (
    f"Access-Control-Allow-Headers: {_ALLOWED_FIELDS}\r\n"
    "Access-Control-Allow-Methods: GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS\r\n"
    "Access-Control-Max-Age: 43200\r\n"
).encode()
_PREFLIGHT_VARY: Final = b"Vary: Access-Control-Request-Method\r\nVary: Access-Control-Request-Headers\r\n"


class Origins:
    """`allowed` as in OLLAMA_ORIGINS: exact, or with one *; they add to Ollama's own."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        patterns = [pattern.lower() for pattern in (*allowed, *_DEFAULTS)]
        self._all = "*" in patterns
        self._exact = frozenset(pattern.encode() for pattern in patterns if "*" not in pattern)
        self._shapes = tuple(
            (start.encode(), end.encode()) for start, star, end in (p.partition("*") for p in patterns) if star
        )

    def allows(self, origin: bytes) -> bool:
        """Case counts in what a client sends, as it does for gin-contrib/cors: browsers send lower case."""
        return (
            self._all
            or origin in self._exact
            or any(origin.startswith(start) and origin.endswith(end) for start, end in self._shapes)
        )

    def fields(self, origin: bytes) -> bytes:
        """The header lines of an answer to an origin that is allowed."""
        if self._all:
            return b"Access-Control-Allow-Origin: *\r\n"
        return b"Access-Control-Allow-Origin: %b\r\nVary: Origin\r\n" % origin

    def preflight(self, origin: bytes) -> bytes:
        """The header lines of the 204 that a browser asks for before it sends what is not simple."""
        return _PREFLIGHT + self.fields(origin) + (b"" if self._all else _PREFLIGHT_VARY)


def is_foreign(origin: bytes, host: bytes) -> bool:
    """Whether a request comes from a page at all, and not from one of the gateway's own."""
    return origin not in {b"", b"http://" + host, b"https://" + host}


# Go's net.IP.IsPrivate: RFC 1918 and RFC 4193. Python's is_private holds much more.
_PRIVATE: Final = tuple(map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))
_OWN_SUFFIXES: Final = (".localhost", ".local", ".internal")


class Hosts:
    """The names that a gateway on loopback answers to: `hostname` is this machine's, `is_own` knows its addresses."""

    def __init__(self, hostname: str, is_own: Callable[[str], bool]) -> None:
        self._names = frozenset({"", "localhost", hostname.lower()})
        # What clients send is short, and mostly one of two or three.
        self.is_address = lru_cache(256)(lambda host: _is_near(split_port(host), is_own))
        self.is_name = lru_cache(256)(self._is_name)

    def allow(self, host: bytes) -> bool:
        text = host.decode("latin-1")
        return self.is_address(text) or self.is_name(text)

    def _is_name(self, host: str) -> bool:
        name = split_port(host).lower()
        return name in self._names or name.endswith(_OWN_SUFFIXES)


def _is_near(host: str, is_own: Callable[[str], bool]) -> bool:
    try:
        address: IPv4Address | IPv6Address = ip_address(host)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    private = any(address in network for network in _PRIVATE if network.version == address.version)
    return address.is_loopback or address.is_unspecified or private or is_own(str(address))


def split_port(host: str) -> str:
    """The host of a Host header as Go's net.SplitHostPort has it; where that fails, the whole of it."""
    name, colon, port = host.rpartition(":")
    if not colon or any(bracket in port for bracket in "[]"):
        return host
    if name.startswith("["):
        inner = name[1:-1]
        return inner if name.endswith("]") and not any(bracket in inner for bracket in "[]") else host
    return host if any(char in name for char in ":[]") else name
