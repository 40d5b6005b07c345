"""OpenAI's and Anthropic's routes."""

from typing import Any

from tests.lab.conformance.rows import ASK, post
from tests.lab.conformance.wire import Request

WRONG_CONTENT: list[Any] = [None, 3, {}, [3]]

OPENAI = [
    *post("/v1/chat/completions", "", "{", {}, {"messages": ASK}),
    *post("/v1/chat/completions", *({"model": "nope", "messages": ASK, "stream": stream} for stream in (True, False))),
    *post("/v1/chat/completions", {"model": "sky", "messages": ASK}, {"model": "sky", "messages": ASK, "stream": True}),
    *post(
        "/v1/chat/completions",
        {"model": "sky", "messages": ASK, "stream": True, "stream_options": {"include_usage": True}},
    ),
    *post(
        "/v1/chat/completions",
        *({"model": "sky", "messages": [{"role": "user", "content": c}]} for c in WRONG_CONTENT),
    ),
    *post("/v1/chat/completions", {"model": "sky", "messages": [{"role": 3}]}, {"model": "sky", "messages": {}}),
    *post(
        "/v1/chat/completions",
        {"model": "sky", "max_tokens": 2, "messages": [{"content": [{"type": "text", "text": "hi"}]}]},
    ),
    *post("/v1/completions", "", {"model": "nope", "prompt": "x"}, {"model": "sky"}, {"model": "sky", "stream": True}),
    *post("/v1/completions", {"model": "sky", "prompt": "why?"}, {"model": "sky", "prompt": "why?", "stream": True}),
    *post("/v1/completions", {"model": "sky", "prompt": "x", "stop": "air", "max_tokens": 9}),
    *post(
        "/v1/completions", {"model": "sky", "prompt": "x", "stream": True, "stream_options": {"include_usage": True}}
    ),
    *post("/v1/embeddings", {"model": "nope", "input": "x"}, {"model": "sky"}, {"model": "sky", "input": []}),
    *post("/v1/embeddings", *({"model": "sky", "input": given} for given in ("x", "", ["x", "y"]))),
    *post("/v1/embeddings", *({"model": "sky", "input": "x", "encoding_format": form} for form in ("base64", "no"))),
    *(Request("GET", f"/v1/models/{name}") for name in ("sky", "sky2:latest", "nope")),
    *post("/v1/responses", "", {}, {"model": "sky"}, {"model": "sky", "input": 3}),
    *post("/v1/responses", *({"model": "nope", "input": "x", "stream": stream} for stream in (True, False))),
    *post("/v1/responses", *({"model": "sky", "input": "why?", "stream": stream} for stream in (True, False))),
    *post("/v1/responses", {"model": "sky", "input": [{"role": "user", "content": "x"}], "max_output_tokens": 2}),
    *post("/v1/responses", {"model": "sky", "input": "x", "instructions": "be", "temperature": 0.5, "stream": True}),
]
ANTHROPIC = [
    *post("/v1/messages", "", {}, {"model": "sky"}, {"model": "sky", "max_tokens": 5}),
    *post("/v1/messages", *({"model": "nope", "max_tokens": 5, "messages": ASK, "stream": s} for s in (True, False))),
    *post("/v1/messages", *({"model": "sky", "max_tokens": 50, "messages": ASK, "stream": s} for s in (True, False))),
    *post("/v1/messages", {"model": "sky", "max_tokens": 2, "messages": ASK, "system": "be brief", "stream": True}),
    *post("/v1/messages", {"model": "sky", "max_tokens": 9, "messages": ASK, "stop_sequences": ["air"]}),
]
