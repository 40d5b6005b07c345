"""What requests for inference can ask for besides an answer: tools, images, formats, thinking, counts, limits."""

from typing import Any

from tests.lab.conformance.rows import ASK, post

# One black pixel.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
TOOL = {
    "type": "function",
    "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}},
}


def _with(path: str, base: dict[str, Any], *members: dict[str, Any]) -> list[Any]:
    return post(path, *(base | {"stream": stream} | each for each in members for stream in (True, False)))


GENERATE = _with(
    "/api/generate",
    {"model": "sky", "prompt": "why?"},
    *(
        {"images": [PIXEL]},
        {"images": ["no base64"]},
        {"images": "x"},
        {"logprobs": True},
        {"logprobs": True, "top_logprobs": 2},
    ),
    *(
        {"context": [1, 2, 3]},
        {"context": []},
        {"keep_alive": "1m"},
        {"keep_alive": -1},
        {"system": "be brief"},
        {"template": "{{ .Prompt }}"},
    ),
    *(
        {"options": {"stop": ["blue"]}},
        {"options": {"num_predict": 2, "seed": 3, "temperature": 0}},
        {"options": {"num_ctx": 2048}},
    ),
    *(
        {"format": {"type": "nonsense"}},
        {"format": "yaml"},
        {"truncate": False},
        {"shift": False},
        {"think": "low"},
        {"width": 64},
    ),
    *(
        {"prompt": "naïve ☂ 日本語 \u0000 \u2028"},
        {"prompt": ["x"]},
        {"prompt": None},
        {"suffix": ""},
        {"raw": True, "template": "x"},
    ),
)
CHAT = _with(
    "/api/chat",
    {"model": "sky", "messages": ASK},
    *(
        {"tools": [TOOL]},
        {"tools": []},
        {"tools": [{}]},
        {"think": "high"},
        {"think": False},
        {"logprobs": True},
        {"options": {"num_predict": 1}},
    ),
    *(
        {"messages": [{"role": "user", "content": "x", "images": [PIXEL]}]},
        {"messages": [{"role": "tool", "content": "x", "tool_name": "f"}]},
    ),
    *(
        {
            "messages": [
                {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
            ]
        },
    ),
    *(
        {"messages": [{"role": "assistant", "tool_calls": "x"}]},
        {"messages": [{"role": "system", "content": "x"}]},
        {"messages": None},
    ),
    *(
        {"messages": [{"content": "x"}]},
        {"format": 3},
        {"truncate": False},
        {"keep_alive": "0"},
    ),
)
OPENAI = [
    *_with(
        "/v1/chat/completions",
        {"model": "sky", "messages": ASK},
        *(
            {"tools": [TOOL], "tool_choice": "auto"},
            {"n": 2},
            {"logprobs": True, "top_logprobs": 2},
            {"max_tokens": 1},
            {"max_completion_tokens": 1},
        ),
        *(
            {"response_format": {"type": "text"}},
            {"response_format": {"type": "nonsense"}},
            {"reasoning_effort": "low"},
            {"reasoning_effort": "x"},
        ),
        *(
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}],
                    }
                ]
            },
        ),
        *(
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "http://example.com/x.png"}}],
                    }
                ]
            },
        ),
        *(
            {"messages": [{"role": "user", "content": [{"type": "nonsense"}]}]},
            {"messages": [{"role": "developer", "content": "x"}]},
        ),
        *(
            {"stop": ["blue"]},
            {"stop": 3},
            {"seed": 1, "temperature": 0, "top_p": 0.5},
            {"temperature": "hot"},
            {"stream_options": None},
        ),
        *({"model": "sky2"}, {"user": "me", "metadata": {"a": "b"}, "unknown": 1}),
    ),
    *_with(
        "/v1/completions",
        {"model": "sky", "prompt": "why?"},
        {"suffix": "x"},
        {"prompt": ["a"]},
        {"echo": True},
        {"logprobs": 1},
    ),
    *_with(
        "/v1/responses",
        {"model": "sky", "input": "why?"},
        *(
            {"tools": [{"type": "function", "name": "f", "parameters": {}}]},
            {"max_output_tokens": 1},
            {"previous_response_id": "resp_1"},
        ),
        *(
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}]},
            {"input": [{"type": "nonsense"}]},
            {"input": ""},
        ),
        *(
            {"text": {"format": {"type": "text"}}},
            {"reasoning": {"effort": "low"}},
            {"store": True},
            {"truncation": "auto"},
        ),
    ),
    *post("/v1/embeddings", *({"model": "sky", "input": given} for given in ([1, 2], [[1, 2]], None, 3, ["x"] * 20))),
    *post("/v1/images/generations", "", {}, {"model": "sky", "prompt": "x"}, {"model": "nope", "prompt": "x"}),
    *post("/v1/images/edits", "", {}, {"model": "sky", "prompt": "x"}, {"model": "sky", "prompt": "x", "image": PIXEL}),
]
ANTHROPIC = _with(
    "/v1/messages",
    {"model": "sky", "max_tokens": 20, "messages": ASK},
    *(
        {"max_tokens": 0},
        {"max_tokens": -1},
        {"max_tokens": "x"},
        {"system": [{"type": "text", "text": "x"}]},
        {"system": 3},
        {"metadata": {"user_id": "x"}},
    ),
    *(
        {"tools": [{"name": "f", "input_schema": {"type": "object"}}]},
        {"tool_choice": {"type": "any"}},
        {"thinking": {"type": "enabled", "budget_tokens": 9}},
    ),
    *(
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "nonsense"}]}]},
    ),
    *(
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
                    ],
                }
            ]
        },
    ),
    *(
        {"messages": [{"role": "user", "content": 3}]},
        {"messages": "x"},
        {"stop_sequences": ["blue"]},
        {"top_k": 3, "top_p": 0.5, "temperature": 0},
    ),
)
