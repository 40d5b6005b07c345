"""Requests that read and change the models."""

from tests.lab.conformance.rows import ASK, ZEROS, X, post
from tests.lab.conformance.wire import Request

LIBRARY = [
    *post("/api/show", "", {}, {"model": "nope"}, {"name": "nope"}, {"model": "a b"}),
    *post("/api/show", {"model": "sky"}, {"name": "sky2", "system": "Other"}),
    *post("/api/copy", "", {}, {"source": "nope", "destination": "x"}, {"source": "sky", "destination": "a b"}),
    *post("/api/copy", {"source": "sky", "destination": "you/copy:v1"}),
    *(Request("DELETE", "/api/delete", body) for body in ("", {}, {"model": "nope"}, {"model": "a b"})),
    *(Request("DELETE", "/api/delete", {"name": "you/copy:v1"}) for _ in range(2)),
    *(Request("HEAD", f"/api/blobs/{digest}") for digest in ("nonsense", f"sha256:{ZEROS}")),
    *(Request("POST", f"/api/blobs/{digest}", "x") for digest in ("nonsense", f"sha256:{ZEROS}", f"sha256-{ZEROS}")),
    *(Request("POST", f"/api/blobs/sha256-{X}", "x") for _ in range(2)),
    Request("HEAD", f"/api/blobs/sha256-{X}"),
    *post("/api/pull", "", {}, {"model": "a b"}),
    *post("/api/push", {}, {"model": "nope"}, {"model": "nope", "stream": False}),
]
CREATE = [
    *post("/api/create", "", {}, {"model": "a b"}, {"model": "x"}, {"model": "x", "stream": False}),
    *post("/api/create", {"model": "x", "from": "a b"}, {"model": "x", "files": {}}),
    *post(
        "/api/create",
        *({"model": "x", "files": {"x.gguf": digest}} for digest in (f"sha256:{ZEROS}", "bad", f"sha256:{X}")),
    ),
    *post("/api/create", {"model": "x", "files": {"x.gguf": "bad"}, "stream": False}),
    *post("/api/create", {"model": "x", "files": {"x.bin": f"sha256:{X}"}}, {"model": "x", "files": {"/x": "bad"}}),
    Request(
        "POST",
        "/api/create",
        {
            "model": "x",
            "from": "sky",
            "template": "{{ .System }} {{ .Prompt }}",
            "license": "MIT",
            "parameters": {"temperature": 0.5, "stop": ["a", "b"]},
            "messages": [{"role": "user", "content": "hi"}],
        },
    ),
    *post("/api/show", {"model": "x"}),
    *post("/api/chat", {"model": "x", "messages": ASK, "stream": False}),
    *post("/api/create", {"model": "x", "from": "x", "template": "{{"}),
    *post("/api/create", {"model": "y", "from": "x", "template": "{{", "stream": False}),
    Request("GET", "/api/tags"),
    Request("GET", "/v1/models"),
    # What is deleted while it is in memory stays there, under a name that nobody can unload any more.
    *post("/api/generate", {"model": "x", "keep_alive": 0}),
    Request("DELETE", "/api/delete", {"model": "x"}),
]
