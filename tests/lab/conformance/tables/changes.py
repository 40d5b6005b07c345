"""Flows that change models, each request standing on those before it. REGISTRY stands for a registry that only this side uses."""

import hashlib

from tests.lab.conformance.rows import ASK, SENTENCE, post
from tests.lab.conformance.wire import Request

COPY = "http://REGISTRY/you/sky:v1"
BLOB = SENTENCE.encode() * 40_000
DIGEST = f"sha256:{hashlib.sha256(BLOB).hexdigest()}"

BLOBS = [
    Request("HEAD", f"/api/blobs/{DIGEST}"),
    Request("POST", f"/api/blobs/{DIGEST}", BLOB[:-1]),  # not what it says
    Request("HEAD", f"/api/blobs/{DIGEST}"),
    Request("POST", f"/api/blobs/{DIGEST}", BLOB, chunked=True),
    Request("HEAD", f"/api/blobs/{DIGEST}"),
    Request("POST", f"/api/blobs/{DIGEST}", "x"),
    *post("/api/create", {"model": "sentence", "files": {"x.gguf": DIGEST}}),
    *post("/api/create", {"model": "sentence", "from": "sky2", "files": {"x.gguf": DIGEST}}),
    *post("/api/show", {"model": "sentence"}),
]
COPIES = [
    *post(
        "/api/copy", {"source": "sky2", "destination": "You/Copy"}, {"source": "SKY2:latest", "destination": "you/copy"}
    ),
    *post("/api/copy", {"source": "sky", "destination": "sky"}, {"source": "sky", "destination": ""}),
    *(Request("GET", path) for path in ("/api/tags", "/v1/models", "/v1/models/you", "/v1/models/sky2")),
    *post("/api/show", {"model": "you/copy"}, {"model": "YOU/COPY:LATEST", "verbose": True}),
    *post("/api/chat", {"model": "you/copy", "messages": ASK, "stream": False}),
    Request("GET", "/api/ps"),
    *post("/api/generate", {"model": "you/copy", "keep_alive": 0}),
    Request("GET", "/api/ps"),
    *(Request("DELETE", "/api/delete", {"model": "you/COPY"}) for _ in range(2)),
    Request("GET", "/api/tags"),
    *post("/api/chat", {"model": "you/copy", "messages": ASK}),
]
REGISTRY = [
    *post("/api/copy", {"source": "sky", "destination": COPY}),
    *post("/api/push", *({"model": COPY, "insecure": insecure} for insecure in (False, True, True))),
    *post("/api/push", {"name": COPY, "insecure": True, "stream": False}, {"model": f"{COPY}-nope", "insecure": True}),
    *post("/api/push", {"model": COPY, "stream": False}),
    Request("DELETE", "/api/delete", {"model": COPY}),
    *post("/api/pull", {"model": COPY}, {"model": COPY, "stream": False}),
    *post("/api/pull", {"model": COPY, "insecure": True}),
    *post("/api/show", {"model": COPY}),
    Request("GET", "/api/tags"),
    *post("/api/pull", {"model": COPY, "insecure": True}, {"name": COPY, "insecure": True, "stream": False}),
    *post("/api/pull", *({"model": f"{COPY}-nope", "insecure": True, "stream": stream} for stream in (True, False))),
    *post("/api/generate", {"model": COPY, "prompt": "why?"}),
    *post("/api/generate", {"model": COPY, "keep_alive": 0}),
    Request("DELETE", "/api/delete", {"model": COPY}),
]
# Ollama's cloud, which nobody here can reach: what is compared is how that is told.
CLOUD = [
    *post("/api/me", "", {}),
    *post("/api/signout", ""),
    Request("DELETE", "/api/user/keys/nope"),
    *post("/api/generate", {"model": "nope:cloud", "prompt": "x"}),
    *post("/api/chat", {"model": "nope-cloud", "messages": ASK}, {"model": "nope:1b-cloud", "messages": ASK}),
    *post("/api/show", {"model": "nope:cloud"}),
    *post("/api/pull", {"model": "nope:cloud"}, {"model": "nope", "stream": False}),
    *post("/api/experimental/web_search", {"query": "x"}),
    *post("/api/experimental/aliases", "", "{", {"alias": "short", "target": "sky"}, {"alias": "", "target": "sky"}),
    Request("GET", "/api/experimental/aliases"),
    *(Request("DELETE", "/api/experimental/aliases", {"alias": alias}) for alias in ("short", "short", "")),
    Request("GET", "/api/experimental/model-recommendations"),
    Request("GET", "/api/status"),
]
