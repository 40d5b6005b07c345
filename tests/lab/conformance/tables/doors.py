"""Paths in odd shapes, methods of every route, and what browsers ask before they ask."""

from olladist.ollama.routes import ROUTES
from tests.lab.conformance.rows import ZEROS
from tests.lab.conformance.wire import Request

_ODD_PATHS = (
    *("/api//tags", "//api//tags", "/api/tags//", "/api/../api/tags", "/api/x/../tags", "/api/.", "/..", "//", "/."),
    *("/api/tags?x=1", "/api/tags/?x=1&y=%20", "//api/tags?x=1", "/?x", "/api/version?", "/api/tags#x"),
    *(
        "/api/%2e/tags",
        "/api/%2E%2E/api/tags",
        "/api%2Ftags",
        "/api/ta%67s",
        "/%61pi/tags/",
        "/api/tags%2F",
        "/api%2Ftags/",
    ),
    *("/v1/models/", "/v1/models/a/b", "/v1/models/%20", "/v1/models/sky/", "/v1/models/%73ky", "/v1/models//sky"),
    *(
        "/v1/models/nope:x",
        "/v1/models/a%3Ab",
        "/api/blobs/",
        "/api",
        "/v1",
        "/api/",
        "/v1/",
        "/index.html",
        "/favicon.ico",
    ),
    *(
        "/api/tags;x",
        "/api/tags%00",
        "/api/tags%20",
        "/api/täg",
        "/a%3Cb%3E/",
        "/api/version/x",
        "/api/%C3%A4",
        "//a%20b%2Fc",
        "/v1/models/../x",
    ),
)
PATHS = [
    *(Request("GET", path) for path in _ODD_PATHS),
    *(Request("HEAD", path) for path in ("/api/tags/", "//api/tags", "/nope/", "/v1/models/sky", "/api/version")),
    *(
        Request("POST", path, "{}")
        for path in ("//api/generate", "/api/generate/?x=1", "/api/./chat", "/api/chat//", "/V1/messages")
    ),
    *(
        Request("POST", path, "{}")
        for path in ("/api/%67enerate", "/v1/chat%2Fcompletions", "/api/generate?stream=false", "/v1/messages/")
    ),
    *(Request("DELETE", path, "{}") for path in ("/api/delete/", "//api/delete", "/api/delete/x")),
    *(Request("GET", f"http://127.0.0.1{path}") for path in ("/api/version", "/nope")),
    Request("OPTIONS", "*"),
    Request("GET", "/api/version", http="1.0"),
    Request("GET", "/nope", http="1.0"),
    Request("HEAD", "/", http="1.0"),
    Request("POST", "/api/embed", {"model": "nope"}, http="1.0"),
    Request("GET", "/api/version", headers={"Connection": "close"}),
    Request("GET", "/api/version", "a body that nobody asked for"),
    Request(
        "GET", "/api/version", headers={"Accept": "text/html", "Accept-Encoding": "gzip, br", "Range": "bytes=0-3"}
    ),
    Request(
        "GET", "/api/version", headers={"If-None-Match": "*", "If-Modified-Since": "Mon, 01 Jan 2024 00:00:00 GMT"}
    ),
]

# A path of every route, with all methods that it does not take.
_PARAMETERS = {":digest": f"sha256:{ZEROS}", ":model": "sky", ":key": "k"}
_ALL = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")


def _wrong_methods() -> list[Request]:
    taken: dict[str, set[str]] = {}
    for route in ROUTES:
        taken.setdefault(route.path, set()).update(route.methods)
    rows = []
    for pattern, methods in taken.items():
        path = pattern
        for name, value in _PARAMETERS.items():
            path = path.replace(name, value)
        rows += [Request(method, path) for method in _ALL if method not in methods]
    return rows


METHODS = _wrong_methods()

_PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-own"}
_HOSTS = (
    *(
        "",
        "LOCALHOST",
        "localhost:1",
        "127.0.0.1:99",
        "127.9.9.9",
        "[::1]:11434",
        "0.0.0.0",  # noqa: S104  what a browser may say
        "192.168.1.1:11434",
        "8.8.8.8",
    ),
    *(
        "a.localhost",
        "gpu.internal",
        "x.local.",
        "example.com",
        "example.com:11434",
        "localhost.evil.example",
        "[fe80::1]",
        "[2001:db8::1]",
    ),
)
_ORIGINS = (
    *(
        "http://127.0.0.1",
        "https://127.0.0.1:8443",
        "http://0.0.0.0:1",
        "https://localhost",
        "http://localhost.evil.example",
    ),
    *(
        "http://localhost:",
        "http://localhost:x",
        "http://[::1]:3000",
        "file://",
        "tauri://localhost",
        "vscode-file://x",
        "moz-extension://x",
    ),
    *("", "localhost", "http://192.168.1.5", "https://ollama.com", "http://a.localhost"),
)
BROWSERS = [
    *(Request("GET", "/api/version", None, {"Host": host}) for host in _HOSTS),
    *(Request("POST", "/api/embed", "{", {"Host": host}) for host in ("evil.example", "localhost")),
    *(Request("OPTIONS", "/nope", None, {"Host": host}) for host in ("evil.example", "localhost", "gpu.local")),
    *(Request("GET", "/api/version", None, {"Origin": origin}) for origin in _ORIGINS),
    *(
        Request("OPTIONS", path, None, {"Origin": origin, **_PREFLIGHT})
        for path in ("/api/chat", "/v1/chat/completions", "/nope", "/")
        for origin in ("http://localhost:5173", "http://evil.example", "null")
    ),
    *(
        Request("POST", path, {"model": "nope"}, {"Origin": origin, "Referer": f"{origin}/x"})
        for path in ("/api/chat", "/api/show", "/v1/messages", "/nope")
        for origin in ("http://localhost:5173", "http://evil.example")
    ),
    *(
        Request("POST", path, {"model": "sky", "prompt": "why?"}, {"Origin": "app://obsidian.md"})
        for path in ("/api/generate", "/v1/completions")
    ),
    # The page that a server shows of itself is no other origin.
    Request("GET", "/api/version", None, {"Host": "localhost:1", "Origin": "http://localhost:1"}),
    Request("GET", "/api/version", None, {"Host": "gpu.local:8080", "Origin": "http://gpu.local:8080"}),
    Request("GET", "/api/version", None, {"Host": "gpu.local:8080", "Origin": "https://gpu.local:8080"}),
    Request("GET", "/api/version", None, {"Host": "evil.example", "Origin": "http://evil.example"}),
    Request("GET", "/api/version", None, {"Host": "evil.example", "Origin": "http://localhost"}),
    Request("GET", "/nope", None, {"Host": "evil.example"}),
    Request("GET", "//api/version", None, {"Host": "evil.example"}),
    Request("GET", "//api/version", None, {"Origin": "http://evil.example"}),
    Request("GET", "/api/version/", None, {"Origin": "http://evil.example"}),
    Request("GET", "/api/version/", None, {"Origin": "http://localhost"}),
]
