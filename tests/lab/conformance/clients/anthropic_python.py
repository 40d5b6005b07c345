"""Anthropic's library: anthropic_python.py URL; prints one JSON document for each call."""

import asyncio
import sys
from typing import Any

import anthropic

from tests.lab.conformance.clients.steps import ASK, say

CALLS: list[dict[str, Any]] = [
    {"model": "sky", "max_tokens": 50, "messages": ASK},
    {"model": "sky", "max_tokens": 50, "messages": ASK, "stream": True},
    {"model": "sky2", "max_tokens": 3, "messages": ASK, "system": "be brief"},
    {"model": "sky", "max_tokens": 50, "messages": ASK, "stop_sequences": ["air"], "stream": True},
    {"model": "sky", "max_tokens": 50, "messages": []},
    {"model": "nope", "max_tokens": 50, "messages": ASK},
    {"model": "nope", "max_tokens": 50, "messages": ASK, "stream": True},
]


def _failed(error: anthropic.APIError) -> dict[str, Any]:
    return {"error": type(error).__name__, "text": str(error), "status": getattr(error, "status_code", None)}


def plain(url: str) -> None:
    client = anthropic.Anthropic(base_url=url, api_key="ollama", max_retries=0)
    for arguments in CALLS:
        try:
            result = client.messages.create(**arguments)
            say("create", list(result) if arguments.get("stream") else result)
        except anthropic.APIError as error:
            say("create", _failed(error))
    with client.messages.stream(model="sky", max_tokens=50, messages=ASK) as stream:
        say("stream", [list(stream.text_stream), stream.get_final_message()])


async def asynchronous(url: str) -> None:
    client = anthropic.AsyncAnthropic(base_url=url, api_key="ollama", max_retries=0)
    for arguments in CALLS:
        try:
            result = await client.messages.create(**arguments)
            say("create", [each async for each in result] if arguments.get("stream") else result)
        except anthropic.APIError as error:
            say("create", _failed(error))


if __name__ == "__main__":
    if sys.argv[1] == "async":
        asyncio.run(asynchronous(sys.argv[2]))
    else:
        plain(sys.argv[2])
