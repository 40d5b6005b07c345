"""OpenAI's library, synchronous and not: openai_python.py URL; prints one JSON document for each call."""

import asyncio
import sys
from typing import Any

import openai

from tests.lab.conformance.clients.steps import ASK, TOOL, say

# (method below the client, arguments)
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("models.list", {}),
    ("models.retrieve", {"model": "sky"}),
    ("models.retrieve", {"model": "nope"}),
    ("chat.completions.create", {"model": "sky", "messages": ASK}),
    ("chat.completions.create", {"model": "sky", "messages": ASK, "stream": True}),
    (
        "chat.completions.create",
        {"model": "sky", "messages": ASK, "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 3},
    ),
    ("chat.completions.create", {"model": "sky", "messages": ASK, "tools": [TOOL]}),
    ("chat.completions.create", {"model": "sky", "messages": ASK, "seed": 1, "temperature": 0, "stop": ["air"]}),
    ("chat.completions.create", {"model": "nope", "messages": ASK}),
    ("chat.completions.create", {"model": "nope", "messages": ASK, "stream": True}),
    ("chat.completions.create", {"model": "sky", "messages": []}),
    ("completions.create", {"model": "sky", "prompt": "why?"}),
    ("completions.create", {"model": "sky", "prompt": "why?", "stream": True}),
    ("completions.create", {"model": "nope", "prompt": "why?"}),
    ("embeddings.create", {"model": "sky", "input": ["a", "b c"]}),
    ("embeddings.create", {"model": "sky", "input": "a", "encoding_format": "float"}),
    ("embeddings.create", {"model": "nope", "input": "a"}),
    ("responses.create", {"model": "sky", "input": "why?"}),
    ("responses.create", {"model": "sky", "input": "why?", "stream": True, "instructions": "be brief"}),
    ("responses.create", {"model": "nope", "input": "why?"}),
]


def _failed(error: openai.APIError) -> dict[str, Any]:
    return {"error": type(error).__name__, "text": str(error), "status": getattr(error, "status_code", None)}


def _method(client: Any, path: str) -> Any:
    for name in path.split("."):
        client = getattr(client, name)
    return client


def plain(url: str) -> None:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="ollama", max_retries=0)
    for path, arguments in CALLS:
        try:
            result = _method(client, path)(**arguments)
            say(path, list(result) if arguments.get("stream") or path == "models.list" else result)
        except openai.APIError as error:
            say(path, _failed(error))


async def asynchronous(url: str) -> None:
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="ollama", max_retries=0)
    for path, arguments in CALLS:
        try:
            made = _method(client, path)(**arguments)
            if path == "models.list":
                say(path, [each async for each in made])
                continue
            result = await made
            say(path, [each async for each in result] if arguments.get("stream") else result)
        except openai.APIError as error:
            say(path, _failed(error))


if __name__ == "__main__":
    if sys.argv[1] == "async":
        asyncio.run(asynchronous(sys.argv[2]))
    else:
        plain(sys.argv[2])
