"""What is decided before any route: methods, paths, the Host and Origin of who asks."""

from tests.lab.conformance.rows import ZEROS
from tests.lab.conformance.wire import Request

FRONT = [
    *(Request(method, "/") for method in ("GET", "HEAD", "POST")),
    *(Request(method, "/api/version") for method in ("GET", "HEAD", "OPTIONS", "DELETE")),
    *(
        Request("GET", path)
        for path in ("/nope", "/api/generate", "/api/tags/", "//api/tags", "/api/./tags", "/API/TAGS")
    ),
    *(Request("GET", path) for path in ("/api/%76ersion", "/v1/models/library%2Fsky", "/v1/audio/transcriptions")),
    Request("GET", f"/api/blobs/sha256:{ZEROS}"),
    Request("POST", "/api/generate/", "{}"),
    Request("POST", "/api/delete"),
    Request("OPTIONS", "/nope"),
    Request("HEAD", "/api/ps"),
    Request("GET", "/api/status"),
]
DOORS = [
    Request(method, "/api/version", None, headers)
    for method in ("GET", "OPTIONS")
    for headers in (
        *({"Host": host} for host in ("evil.example", "localhost", "10.1.2.3", "foo.local:99", "localhost.")),
        *({"Origin": f"{scheme}localhost"} for scheme in ("http://", "HTTP://")),
        *({"Origin": origin} for origin in ("http://localhost:3000", "http://evil.example", "null", "app://x")),
        *({"Origin": origin} for origin in ("vscode-webview://abc", "chrome-extension://abc")),
    )
]
