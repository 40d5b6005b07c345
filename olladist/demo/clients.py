"""Clients of the gateway: one that shows a streamed chat, and many that keep it busy and judge every answer."""

import asyncio
import importlib.util
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from olladist.errors import OlladistError

CLIENTS = 24

# Long enough that at any moment some requests are being read and have not begun to stream.
PROMPT = (
    "Please explain, in one sentence and in plain words, to somebody who has never thought about it, "
    "why the world around us looks the way it does on a clear day."
)
SECONDS = 6.0


async def streamed_chat(url: str, model: str, show: Callable[[str], None]) -> tuple[str, str]:
    """(which client, the whole answer) of a chat through the `ollama` package where there is one, else plain NDJSON.

    OlladistError where there is no answer.
    """
    messages = [{"role": "user", "content": PROMPT}]
    if importlib.util.find_spec("ollama"):
        name, parts = "the unmodified `ollama` Python client", _by_package(url, model, messages)
    else:
        name, parts = "plain HTTP (the `ollama` package is not installed)", _by_http(url, model, messages)
    text = ""
    async for part in parts:
        show(part)
        text += part
    return name, text


async def _by_package(url: str, model: str, messages: list[dict[str, str]]) -> AsyncIterator[str]:
    import ollama  # noqa: PLC0415  a development dependency: the demo does without

    try:
        async with ollama.AsyncClient(host=url) as client:
            async for part in await client.chat(model, messages, stream=True):
                yield part.message.content or ""
    except (ollama.ResponseError, httpx.HTTPError, ConnectionError) as error:
        raise OlladistError(f"the chat with {model} failed: {error}") from error


async def _by_http(url: str, model: str, messages: list[dict[str, str]]) -> AsyncIterator[str]:
    body = {"model": model, "messages": messages}
    try:
        async with (
            httpx.AsyncClient(timeout=60) as client,
            client.stream("POST", f"{url}/api/chat", json=body) as answer,
        ):
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                yield json.loads(line)["message"]["content"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise OlladistError(f"the chat with {model} failed: {error}") from error


@dataclass(slots=True)
class Tally:
    """What became of the requests of a load."""

    served: int = 0
    cut: int = 0  # it had begun to stream: nobody can repeat that
    failed: list[str] = field(default_factory=list)  # not a byte of an answer had been sent
    wrong: list[str] = field(default_factory=list)  # other words than the model says
    served_after: int = 0  # served by requests that were sent after the host was killed
    nodes: Counter[str] = field(default_factory=Counter)
    streaming: Counter[str] = field(default_factory=Counter)  # answers under way now
    killed_at: float = 0.0
    victim: str = ""

    @property
    def total(self) -> int:
        return self.served + self.cut + len(self.failed) + len(self.wrong)


async def load(
    url: str, sentences: Mapping[str, str], kill: Callable[[str], Awaitable[None]], *, seconds: float = SECONDS
) -> Tally:
    """Keeps the gateway busy; a third into it `kill` gets the host that streams most answers at that moment.

    `sentences` has what each model says.
    """
    tally = Tally()
    stop = asyncio.Event()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=CLIENTS)
    models = list(sentences)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client, asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            model = models[number % len(models)]
            group.create_task(_ask_again(client, model, sentences[model], tally, stop))
        await asyncio.sleep(seconds / 3)
        tally.victim = _busiest(tally)
        tally.killed_at = time.monotonic()
        await kill(tally.victim)
        await asyncio.sleep(seconds * 2 / 3)
        stop.set()
    return tally


def _busiest(tally: Tally) -> str:
    most = (tally.streaming or tally.nodes).most_common(1)
    return most[0][0].partition(":")[0] if most else ""


async def _ask_again(client: httpx.AsyncClient, model: str, sentence: str, tally: Tally, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await _ask(client, model, sentence, tally)


async def _ask(client: httpx.AsyncClient, model: str, sentence: str, tally: Tally) -> None:
    """One streamed chat, and the judgement on it."""
    begun = time.monotonic()
    text, last, node = "", dict[str, Any](), ""
    try:
        body = {"model": model, "messages": [{"role": "user", "content": PROMPT}]}
        async with client.stream("POST", "/api/chat", json=body) as answer:
            if answer.status_code != 200:
                tally.failed.append(f"{answer.status_code} {(await answer.aread()).decode(errors='replace')[:200]}")
                return
            node = answer.headers.get("x-ollama-node", "?")
            tally.nodes[node] += 1
            tally.streaming[node] += 1
            async for line in answer.aiter_lines():
                last = json.loads(line)
                text += last.get("message", {}).get("content", "")
    except (httpx.HTTPError, ValueError) as error:
        last = {"error": f"{type(error).__name__}: {error}"}
    finally:
        if node:
            tally.streaming[node] -= 1
    _judge(tally, begun, bool(node), text, last, sentence)


def _judge(tally: Tally, sent: float, streaming: bool, text: str, last: Mapping[str, Any], sentence: str) -> None:
    """`streaming`: the head of an answer had come, so the request had begun to stream."""
    if last.get("done") and text.strip() == sentence:
        tally.served += 1
        tally.served_after += bool(tally.killed_at) and sent > tally.killed_at
    elif last.get("done"):
        tally.wrong.append(text)
    elif streaming:
        tally.cut += 1
    else:
        tally.failed.append(str(last.get("error", "the answer was empty")))
