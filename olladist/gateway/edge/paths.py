"""Paths as Ollama's server reads them before it looks for a route: cleaned by Go's ServeMux, trimmed by gin. Pure."""

import posixpath
import re
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from olladist.ollama.routes import find

# net/url's validEncoded and shouldEscape for paths.
_ENCODED: Final = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@\[\]/%]*+")
_KEPT: Final = "-._~$&+,/:;=@"

_HTML: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;"})
_PHRASES: Final = {301: "Moved Permanently", 307: "Temporary Redirect"}


class Moved(NamedTuple):
    status: int
    location: str
    content_type: str
    body: bytes


def moved(method: str, target: str, prefix: str = "") -> Moved | None:
    """Where a request is sent instead; None for one that is answered as it stands.

    `prefix` stood before `target` and is put before the new one as well.
    """
    path, question, query = target.partition("?")
    if path == "/" or not (path.endswith("/") or "//" in path or "/." in path or "%" in path):
        return None  # nearly all there are
    clean = cleaned(path)
    if clean != _encoded(path):
        # ServeMux escapes once more what was escaped already: %2e becomes %252e. So be it.
        return _to(method, 307, prefix + _quoted(clean.encode()) + question + query)
    decoded = unquote_to_bytes(path)
    if decoded.endswith(b"/") and len(decoded) > 1 and find(method, _quoted(decoded[:-1])) is not None:
        return _to(method, 301 if method == "GET" else 307, prefix + _quoted(decoded[:-1]) + question + query)
    return None


def cleaned(path: str) -> str:
    """net/http's cleanPath of the escaped path: no "//", no "." and no ".." in it; a slash at its end stays."""
    encoded = _encoded(path)
    if not any(odd in encoded for odd in ("//", "/.")):
        return encoded
    clean = posixpath.normpath("/" + encoded.lstrip("/"))
    ends = encoded.endswith("/") or clean == "/"
    return clean if not ends or clean.endswith("/") else clean + "/"


def _encoded(path: str) -> str:
    """net/url's EscapedPath: as it came where that is well-formed."""
    return path if _ENCODED.fullmatch(path) else _quoted(unquote_to_bytes(path))


def _quoted(path: bytes) -> str:
    return quote(path, safe=_KEPT)


def _to(method: str, status: int, location: str) -> Moved:
    """net/http's Redirect: a body for GET, its type for HEAD too, neither for the others."""
    body = f'<a href="{location.translate(_HTML)}">{_PHRASES[status]}</a>.\n\n' if method == "GET" else ""
    return Moved(status, location, "text/html; charset=utf-8" if method in {"GET", "HEAD"} else "", body.encode())
