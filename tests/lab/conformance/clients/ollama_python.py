"""ollama-python, synchronous and not: ollama_python.py URL REGISTRY GGUF; prints one JSON document for each call."""

import asyncio
import sys
from typing import Any

import ollama

from tests.lab.conformance.clients.steps import say, steps
from tests.lab.waiting import wait_until


def _failed(error: Exception) -> dict[str, Any]:
    return {"error": type(error).__name__, "text": str(error), "status": getattr(error, "status_code", None)}


def _unloaded(url: str, model: str) -> None:
    """Ollama unloads in the background, and lists what it is closing until that is over (server/sched.go)."""
    client = ollama.Client(url)
    name = f"{model}:latest"
    wait_until(lambda: all(each.model != name for each in client.ps().models), f"{model} is out of memory")


def plain(url: str, registry: str, gguf: str) -> None:
    client = ollama.Client(url)
    digest = client.create_blob(gguf)
    say("create_blob", digest)
    say("create", client.create("from-file", files={"m.gguf": digest}, parameters={"num_thread": 1}))
    say("generate", client.generate("from-file", "why?"))
    say("generate", client.generate("from-file", keep_alive=0))
    _unloaded(url, "from-file")
    say("delete", client.delete("from-file"))
    for method, arguments in steps(registry):
        try:
            result = getattr(client, method)(**arguments)
            say(method, list(result) if arguments.get("stream") else result)
            if arguments.get("keep_alive") == 0:
                _unloaded(url, arguments["model"])
        except (ollama.ResponseError, ollama.RequestError) as error:
            say(method, _failed(error))


async def asynchronous(url: str, registry: str, gguf: str) -> None:
    client = ollama.AsyncClient(url)
    say("create_blob", await client.create_blob(gguf))
    for method, arguments in steps(registry):
        try:
            result = await getattr(client, method)(**arguments)
            say(method, [each async for each in result] if arguments.get("stream") else result)
            if arguments.get("keep_alive") == 0:
                await asyncio.to_thread(_unloaded, url, arguments["model"])
        except (ollama.ResponseError, ollama.RequestError) as error:
            say(method, _failed(error))


if __name__ == "__main__":
    if sys.argv[1] == "async":
        asyncio.run(asynchronous(*sys.argv[2:]))
    else:
        plain(*sys.argv[2:])
