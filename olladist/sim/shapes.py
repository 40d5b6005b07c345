"""The structs that request bodies are decoded into, field by field with their Go types (api/types.go)."""

from olladist.sim.golang import Shape

_OPTIONS = "map[string]interface {}"

GENERATE = Shape(
    "GenerateRequest",
    {
        "model": "string",
        "prompt": "string",
        "suffix": "string",
        "system": "string",
        "template": "string",
        "context": "[]int",
        "stream": "bool",
        "raw": "bool",
        "format": "any",
        "keep_alive": "api.Duration",
        "images": "any",
        "options": _OPTIONS,
        "think": "any",
        "truncate": "bool",
        "top_logprobs": "int",
    },
)
CHAT = Shape(
    "ChatRequest",
    {
        "model": "string",
        "messages": "[]api.Message",
        "stream": "bool",
        "format": "any",
        "keep_alive": "api.Duration",
        "tools": "api.Tools",
        "options": _OPTIONS,
        "think": "any",
        "truncate": "bool",
        "top_logprobs": "int",
    },
)
EMBED = Shape(
    "EmbedRequest",
    {
        "model": "string",
        "input": "any",
        "keep_alive": "api.Duration",
        "truncate": "bool",
        "dimensions": "int",
        "options": _OPTIONS,
    },
)
EMBEDDINGS = Shape(
    "EmbeddingRequest", {"model": "string", "prompt": "string", "keep_alive": "api.Duration", "options": _OPTIONS}
)
SHOW = Shape(
    "ShowRequest", {"model": "string", "name": "string", "system": "string", "verbose": "bool", "options": _OPTIONS}
)
COPY = Shape("CopyRequest", {"source": "string", "destination": "string"})
DELETE = Shape("DeleteRequest", {"model": "string", "name": "string"})
PULL = Shape("PullRequest", {"model": "string", "name": "string", "insecure": "bool", "stream": "bool"})
PUSH = Shape("PushRequest", {"model": "string", "name": "string", "insecure": "bool", "stream": "bool"})
CREATE = Shape(
    "CreateRequest",
    {
        "model": "string",
        "name": "string",
        "stream": "bool",
        "from": "string",
        "files": "map[string]string",
        "adapters": "map[string]string",
        "template": "string",
        "license": "any",
        "system": "string",
        "parameters": _OPTIONS,
        "messages": "[]api.Message",
        "quantize": "string",
    },
)
OPENAI_CHAT = Shape(
    "ChatCompletionRequest",
    {
        "model": "string",
        "messages": "[]openai.Message",
        "stream": "bool",
        "stream_options": "openai.StreamOptions",
        "max_tokens": "int",
        "seed": "int",
        "stop": "any",
        "temperature": "float64",
        "top_p": "float64",
        "response_format": "any",
        "tools": "[]api.Tool",
        "reasoning_effort": "string",
    },
    "openai",
)
OPENAI_COMPLETION = Shape(
    "CompletionRequest",
    {
        "model": "string",
        "prompt": "string",
        "stream": "bool",
        "stream_options": "openai.StreamOptions",
        "max_tokens": "int",
        "stop": "any",
        "suffix": "string",
        "temperature": "float32",
        "top_p": "float32",
    },
    "openai",
)
OPENAI_EMBED = Shape(
    "EmbedRequest",
    {"model": "string", "input": "any", "dimensions": "int", "encoding_format": "string"},
    "openai",
)
RESPONSES = Shape(
    "ResponsesRequest",
    {
        "model": "string",
        "background": "bool",
        "input": "any",
        "instructions": "string",
        "max_output_tokens": "int",
        "temperature": "float64",
        "top_p": "float64",
        "truncation": "string",
        "tools": "[]openai.ResponsesTool",
        "stream": "bool",
    },
    "openai",
)
MESSAGES = Shape(
    "MessagesRequest",
    {
        "model": "string",
        "max_tokens": "int",
        "messages": "[]anthropic.MessageParam",
        "system": "any",
        "stream": "bool",
        "temperature": "float64",
        "top_p": "float64",
        "top_k": "int",
        "stop_sequences": "[]string",
        "tools": "[]anthropic.Tool",
        "thinking": "any",
    },
    "anthropic",
)
