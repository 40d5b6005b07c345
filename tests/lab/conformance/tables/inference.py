"""Requests for inference in Ollama's own API, good and bad, and the syntax of bodies."""

from typing import Any

from tests.lab.conformance.rows import ASK, post
from tests.lab.conformance.wire import Request

WRONG_MESSAGES: list[Any] = ["x", {}, ["x"], [{"role": 3}], [{"content": 3}]]
WRONG_KEEP_ALIVE: list[Any] = ["x", True, [], {}, "5", "1h30"]

SYNTAX = post(
    "/api/embed",
    *(
        "",
        "{",
        "nonsense",
        "[]",
        "null",
        '"x"',
        "01",
        "nul",
        "-",
        '"abc',
        "tru",
        " ",
        '{"a":tru}',
        '{"a":-}',
        "[1,]",
        "[1 2]",
    ),
    *('{"a":1 "b":2}', '{"a":1,}', "{a:1}", '{"a" 1}', '{"a":"x\ny"}', '{"a":"\\q"}', '{"x":NaN}', '{"a":1}}'),
    *('{"model":1.5}', '{"model":"sky","truncate":3}', '{"MODEL":"sky"} trailing', '{"model":"sky","dimensions":"a"}'),
)
GENERATE = post(
    "/api/generate",
    {"model": "sky", "prompt": "why?"},
    *(
        {},
        {"model": "nope", "prompt": "x"},
        {"model": "a b"},
        {"model": "nope:cloud"},
        {"model": "SKY:Latest", "prompt": "x"},
    ),
    *({"model": "sky", "prompt": "x", "options": {"num_predict": count}} for count in (3, 0, -1)),
    *(
        {"model": "sky", "prompt": "x", "options": options}
        for options in ({"num_ctx": "big"}, {"nonsense": 1}, {"stop": 3})
    ),
    *(
        {"model": "sky", "prompt": "x", "stream": False, "options": {"stop": [stop]}}
        for stop in ("blue", "sky is", " air")
    ),
    *({"model": "sky", "prompt": "x", "think": think} for think in (True, "high", False)),
    *({"model": "sky", "prompt": "x", "format": wanted} for wanted in ("xml", 3)),
    {"model": "sky", "prompt": "x", "suffix": "y"},
    {"model": "sky", "prompt": "x", "raw": True, "stream": False},
    {"model": "sky", "prompt": "x", "raw": True, "system": "y"},
    {"model": "sky", "prompt": "x", "template": "{{"},
    {"model": "sky", "prompt": "x", "top_logprobs": 30},
    {"model": "sky", "prompt": "naïve ☂ <b> & c", "stream": False},
    {"model": "registry.ollama.ai/library/sky", "prompt": "two words", "stream": False},
    *({"model": "sky", "keep_alive": bad} for bad in WRONG_KEEP_ALIVE),
    *('{"model":3}', '{"model":"sky","stream":"no"}', '{"model":"sky","options":3}', '{"model":"sky","context":["x"]}'),
)
# Loading, unloading and what /api/ps says in between.
# No second name of the same weights: until the gateway has learned that they are one, another host may load them once more.
KEEPING = [
    request
    for body in (
        {"model": "sky"},
        {"model": "sky", "keep_alive": 0},
        {"model": "sky", "keep_alive": -1},
        {"model": "sky", "keep_alive": "10m", "stream": False},
        {"model": "sky", "prompt": "x", "stream": False},
    )
    for request in (Request("POST", "/api/generate", body), Request("GET", "/api/ps"))
]
CHAT = post(
    "/api/chat",
    {"model": "sky", "messages": ASK},
    {"model": "sky", "messages": ASK, "stream": False},
    *("", "{", {}, {"model": "nope", "messages": ASK}, {"model": "a b", "messages": ASK}),
    *({"model": "sky", "messages": messages} for messages in WRONG_MESSAGES),
    *({"model": "sky", "keep_alive": keep} for keep in ("5m", 0)),
    {"model": "sky", "messages": [], "stream": True},
    {"model": "sky", "messages": ASK, "tools": 3},
    {"model": "sky", "messages": ASK, "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
    {"model": "sky", "messages": ASK, "think": True},
    {"model": "sky", "messages": ASK, "options": {"num_predict": 2}},
    {"model": "sky", "messages": [{"role": "oops", "content": "x"}], "stream": False},
    {"model": "sky", "messages": [*ASK, {"role": "assistant", "content": "yo"}, *ASK], "stream": False},
    {"model": "sky2", "messages": ASK, "stream": False},
)
EMBED = post(
    "/api/embed",
    *({}, {"model": "nope", "input": "x"}, {"model": "a b", "input": "x"}, {"model": "sky"}),
    *({"model": "sky", "input": given} for given in ("a", ["a", "b c"], "", [], [""], 3, [3])),
    {"model": "sky", "input": ["x"], "dimensions": 4},
    {"model": "sky", "input": "x" * 5000},
) + post(
    "/api/embeddings",
    *("", {}, {"model": "nope", "prompt": "x"}, {"model": "a b", "prompt": "x"}, {"model": "SKY", "prompt": "x"}),
    *({"model": "sky", "prompt": prompt} for prompt in ("", "x", "x" * 5000)),
)
