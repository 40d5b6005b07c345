"""The door of gin: which route a request meets, what is refused before any handler sees it (server/routes.go GenerateRoutes)."""

import ipaddress
import posixpath
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_METHODS = ("HEAD", "GET", "POST", "DELETE")  # the order in which gin names them in Allow
_ORIGIN_HOSTS = ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104  names in an allow list
_ORIGINS = (
    *(f"{scheme}://{host}{port}" for host in _ORIGIN_HOSTS for scheme in ("http", "https") for port in ("", ":*")),
    *("app://*", "file://*", "tauri://*", "vscode-webview://*", "vscode-file://*"),
)
_PREFLIGHT = {
    "access-control-allow-headers": (
        "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,X-Stainless-Arch,X-Stainless-Async,"
        "X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,X-Stainless-Lang,X-Stainless-Os,"
        "X-Stainless-Package-Version,X-Stainless-Poll-Helper,X-Stainless-Retry-Count,X-Stainless-Runtime,"
        "X-Stainless-Runtime-Version,X-Stainless-Timeout"
    ),
    "access-control-allow-methods": "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS",
    "access-control-max-age": "43200",
    "vary": "Access-Control-Request-Headers",
}


@dataclass(frozen=True, slots=True)
class Page:
    """An answer that needs no handler."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] | None = None


def match(path: str, patterns: Sequence[str]) -> tuple[str, str] | None:
    """The pattern that the path meets, and what stands for its ":param", which holds no slash."""
    for pattern in patterns:
        head, colon, _ = pattern.partition(":")
        rest = path.removeprefix(head)
        if (not colon and path == pattern) or (colon and path.startswith(head) and rest and "/" not in rest):
            return pattern, rest if colon else ""
    return None


def allowed(methods: Sequence[str]) -> str:
    return ", ".join(method for method in _METHODS if method in methods)


def redirect(method: str, path: str, patterns: Sequence[str]) -> Page | None:
    """Go's mux cleans "//" and "/./" (307), gin adds or drops a trailing slash (301 for GET, 307 for the others)."""
    clean = posixpath.normpath(path).replace("//", "/", 1) + ("/" if path.endswith("/") and len(path) > 1 else "")
    if path not in {clean, "/"}:
        return _moved(307, method, clean)
    if path.endswith("/") and path != "/" and match(path[:-1], patterns):
        return _moved(301 if method == "GET" else 307, method, path[:-1])
    return None


def _moved(status: int, method: str, place: str) -> Page:
    if method not in {"GET", "HEAD"}:
        return Page(status, headers={"location": place})
    words = {301: "Moved Permanently", 307: "Temporary Redirect"}[status]
    body = f'<a href="{place}">{words}</a>.\n\n'.encode()
    return Page(status, body, {"content-type": "text/html; charset=utf-8", "location": place})


def origin_allowed(origin: str, more: Sequence[str]) -> bool:
    for pattern in (*more, *_ORIGINS):
        before, star, after = pattern.partition("*")
        if origin == pattern or (star and origin.startswith(before) and origin.endswith(after)):
            return True
    return False


def host_allowed(host: str) -> bool:
    """Names and addresses that a loopback server answers to; any other Host is 403 (allowedHostsMiddleware)."""
    name = host.rsplit(":", 1)[0].strip("[]") if host.count(":") == 1 or host.startswith("[") else host
    if is_local_address(name):
        return True
    return is_local_name(name)


def is_local_address(name: str) -> bool:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_private or address.is_unspecified


def is_local_name(name: str) -> bool:
    name = name.lower()
    own = socket.gethostname().lower()
    return name in {"", "localhost", own} or name.endswith((".localhost", ".local", ".internal"))


def check(
    method: str, headers: Mapping[str, str], methods: Sequence[str], *, loopback: bool, origins: Sequence[str]
) -> tuple[Page | None, dict[str, str]]:
    """CORS first, then the Host, then the method: the page that ends the request here, and headers for any other answer."""
    allow = {"allow": allowed(methods)} if methods and method not in methods else {}
    host, origin = headers.get("host", ""), headers.get("origin", "")
    extra: dict[str, str] = {}
    if origin and origin not in {f"http://{host}", f"https://{host}"}:
        if not origin_allowed(origin, origins):
            return Page(403, headers=allow), {}
        extra = {"access-control-allow-origin": origin}
        if method == "OPTIONS":
            return Page(204, headers=extra | _PREFLIGHT | allow), {}
        extra["vary"] = "Origin"
    if loopback and not host_allowed(host):
        return Page(403, headers=allow), {}
    address = host.rsplit(":", 1)[0].strip("[]")
    if loopback and method == "OPTIONS" and not is_local_address(address):
        return Page(204, headers=allow), {}
    if not methods:
        return Page(404, b"404 page not found", {"content-type": "text/plain"} | extra), {}
    if method not in methods:
        return Page(405, b"405 method not allowed", {"content-type": "text/plain"} | allow | extra), {}
    return None, extra
