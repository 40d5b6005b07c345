"""Bodies as clients send them: in chunks, compressed, of another type, cut, doubled, deep; on every route that takes one."""

from typing import Any

from olladist.ollama.routes import ROUTES, ModelIn
from tests.lab.conformance.rows import ASK, post
from tests.lab.conformance.wire import Request

# Without a network, and asked for what is not there, none of these changes anything.
TAKING = [
    (route.methods[0], route.path)
    for route in ROUTES
    if route.model_in is ModelIn.BODY and not route.path.startswith("/v1/images")
]
WRONG = (
    *(
        "",
        "null",
        "[]",
        "3",
        '"x"',
        "{",
        '{"model":"nope"',
        '{"model":3}',
        '{"model":["nope"]}',
        '{"name":3}',
        '{"model":null}',
    ),
    *(
        '{"model":""}',
        '{"model":"nope"} trailing',
        '{"model":"nope"}{"model":"sky"}',
        '{"Model":"nope"}',
        '{"MODEL":"sky","model":"nope"}',
    ),
    *(
        '{"model":"sky","MODEL":"nope"}',
        '{"model":"nope","stream":"x"}',
        '{"model":"nope","stream":null}',
        '{"model":"nope","unknown":{"a":[]}}',
    ),
    *(
        '\ufeff{"model":"nope"}',
        '{"model":"nope",}',
        "{'model':'nope'}",
        '{"model":"\\ud800"}',
        '{"model":"n\\u006fpe"}',
        '{"model":"nope"}\n\n',
    ),
    *(
        '{"model":"a/b/c/d/e"}',
        '{"model":"nope:"}',
        '{"model":"/"}',
        '{"model":"..."}',
        '{"model":"nope:latest:x"}',
        '{"model":" nope"}',
    ),
    *(
        '{"model":"' + "x" * 500 + '"}',
        '{"model":"ä"}',
        '{"model":"a\\u0000b"}',
        '{"model":"nope","options":[]}',
        '{"mödel":1}',
    ),
    "[" * 20_000 + "]" * 20_000,
    '{"model":"nope","x":' + "[" * 10_001 + "]" * 10_001 + "}",
)
SYNTAX = [
    *(Request(method, path) for method, path in TAKING),
    *(Request(method, path, b'{"model":"\xff\xfe"}') for method, path in TAKING),
    *(Request(method, path, body) for method, path in TAKING for body in WRONG),
]

CHAT: dict[str, Any] = {"model": "sky", "messages": ASK, "max_tokens": 9}
INPUT = {"model": "sky", "input": "why?"}
PROMPT = {"model": "sky", "prompt": "why?"}
_GOOD: list[tuple[str, dict[str, Any]]] = [
    *(
        ("/api/generate", PROMPT),
        ("/api/chat", CHAT),
        ("/api/embed", INPUT),
        ("/api/embeddings", PROMPT),
        ("/api/show", {"model": "sky"}),
    ),
    *(("/v1/chat/completions", CHAT), ("/v1/completions", PROMPT), ("/v1/embeddings", INPUT), ("/v1/responses", INPUT)),
    ("/v1/messages", CHAT),
]
TRAVELS = [
    *(Request("POST", path, body, chunked=True) for path, body in _GOOD),
    *(Request("POST", path, body, zstd=True) for path, body in _GOOD),
    *(Request("POST", path, body, zstd=True, chunked=True) for path, body in _GOOD[-3:]),
    *(Request("POST", path, body, http="1.0") for path, body in _GOOD),
    *(Request("POST", path, body, {"Content-Type": "application/x-www-form-urlencoded"}) for path, body in _GOOD),
    *(
        Request("POST", path, body, {"Content-Type": "text/plain; charset=utf-16", "Accept": "text/plain"})
        for path, body in _GOOD
    ),
    *(Request("POST", path, body, {"Expect": "100-continue"}) for path, body in _GOOD[:2]),
    *(Request("POST", path, body, {"Content-Encoding": "gzip"}) for path, body in _GOOD),
    *(
        Request("POST", path, b"\x28\xb5\x2f\xfd broken", {"Content-Encoding": "zstd"})
        for path, _ in _GOOD
        if path != "/v1/responses"
    ),
    *(
        Request("POST", path, body, {"Authorization": "Bearer sk-1", "X-Api-Key": "k", "Cookie": "a=b"})
        for path, body in _GOOD[:1]
    ),
    *(Request("POST", path, body, {"X-Request-Id": "mine", "X-Stainless-Retry-Count": "1"}) for path, body in _GOOD),
    *(Request("POST", path, "", chunked=True) for path, _ in _GOOD),
    Request("POST", "/v1/responses", b"", zstd=True),
    *post("/api/generate", {"padding": "x" * 300_000, "model": "sky", "prompt": "x", "options": {"num_predict": 1}}),
]
