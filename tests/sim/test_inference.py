"""Answers, loads, slots and disconnects, over a real socket."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from ollama import AsyncClient, ResponseError

from tests.sim.conftest import ASK, SENTENCE, Ollama, Serve


async def lines(ollama: Ollama, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    async with ollama.client.stream("POST", path, json=body) as answer:
        assert answer.headers["content-type"] == "application/x-ndjson"
        return [json.loads(line) async for line in answer.aiter_lines()]


async def until(ollama: Ollama, condition: Callable[[list[str]], bool]) -> None:
    """Asks what is loaded until the condition holds of it, 30 s at most."""
    async with asyncio.timeout(30):
        while not condition(await ollama.loaded()):
            pass


async def test_an_answer_streams_word_by_word(ollama: Ollama) -> None:
    """Every line echoes the model as it was asked for; the last one says why it ended and how long it took."""
    found = await lines(ollama, "/api/chat", {"model": "SKY", "messages": ASK})

    assert "".join(line["message"]["content"] for line in found).strip() == SENTENCE
    assert {line["model"] for line in found} == {"SKY"}
    assert [line["done"] for line in found] == [False] * 10 + [True]
    assert found[-1]["done_reason"] == "stop"
    assert found[-1]["eval_count"] == 11
    assert found[-1]["prompt_eval_count"] == 8
    assert 0 < found[-1]["load_duration"] < found[-1]["total_duration"]


async def test_the_official_client_understands_it(ollama: Ollama) -> None:
    """Streamed and whole, embeddings, lists and errors, through the unmodified `ollama` package."""
    async with AsyncClient(host=f"http://127.0.0.1:{ollama.port}") as client:
        words = [part.message.content or "" async for part in await client.chat("sky", ASK, stream=True)]
        whole = await client.generate("sky", "why?")
        vectors = await client.embed("sky", ["a", "b"])
        listed = [model.model for model in (await client.list()).models]
        shown = await client.show("sky")
        with pytest.raises(ResponseError, match="model 'nope' not found"):
            await client.chat("nope", ASK)

    assert "".join(words).strip() == whole.response.strip() == SENTENCE
    assert len(vectors.embeddings) == 2
    assert listed == ["sky:latest"]
    assert shown.capabilities == ["completion"]


async def test_an_empty_prompt_loads_and_keep_alive_0_unloads(ollama: Ollama) -> None:
    """One JSON object each, whatever `stream` says; /api/ps follows."""
    load = await ollama.post("/api/generate", {"model": "sky"})
    after_load = await ollama.loaded()
    unload = await ollama.post("/api/chat", {"model": "sky", "keep_alive": 0})

    assert (load["done_reason"], unload["done_reason"]) == ("load", "unload")
    assert after_load == ["sky:latest"]
    assert await ollama.loaded() == []


async def test_a_model_leaves_memory_after_its_keep_alive(ollama: Ollama) -> None:
    """Without any further request; the last one's counts."""
    await ollama.post("/api/generate", {"model": "sky", "keep_alive": -1})
    assert await ollama.loaded() == ["sky:latest"]
    await ollama.post("/api/generate", {"model": "sky", "keep_alive": "50ms"})
    await until(ollama, lambda loaded: loaded == [])


async def test_slots_bound_what_runs_at_once(serve: Serve) -> None:
    """With 2 slots, 2 of 4 requests run and 2 wait, as long as it takes and without an error."""
    async with serve(parallel=2, tokens_per_second=20) as ollama:
        await ollama.make("sky")
        await ollama.post("/api/generate", {"model": "sky"})
        body = {"model": "sky", "messages": ASK, "stream": False}
        asking = [asyncio.create_task(ollama.post("/api/chat", body)) for _ in range(4)]
        runner = next(iter(ollama.server.runners.scheduler.runners.values()))
        await until(ollama, lambda _: len(runner.running) == len(runner.waiting) == 2)
        await until(ollama, lambda _: not runner.waiting)

        assert [answer["done"] for answer in await asyncio.gather(*asking)] == [True] * 4


async def test_the_queue_for_loads_is_bounded_in_ollamas_words(serve: Serve) -> None:
    """With one model in use and no room, one request is in hand, max_queue wait, the next is 503."""
    async with serve(max_loaded=1, max_queue=0, tokens_per_second=20) as ollama:
        await ollama.make("sky")
        await ollama.make("sea", "A deep blue sea.")
        busy = asyncio.create_task(ollama.post("/api/generate", {"model": "sky", "prompt": "x", "stream": False}))
        await until(ollama, lambda loaded: loaded == ["sky:latest"])
        waiting = asyncio.create_task(ollama.post("/api/generate", {"model": "sea", "prompt": "x", "stream": False}))
        await until(ollama, lambda _: len(ollama.server.runners.scheduler.pending) == 1)
        refused = await ollama.client.post("/api/generate", json={"model": "sea", "prompt": "x"})
        await busy

        assert refused.status_code == 503
        assert refused.json() == {"error": "server busy, please try again.  maximum pending requests exceeded"}
        assert (await waiting)["response"].strip() == "A deep blue sea."


async def test_a_client_that_leaves_gives_its_slot_back(serve: Serve) -> None:
    """At once, and so does one that waits."""
    async with serve(tokens_per_second=2) as ollama:
        await ollama.make("sky")
        await ollama.post("/api/generate", {"model": "sky"})
        scheduler = ollama.server.runners.scheduler

        async def stream(started: asyncio.Event) -> None:
            async with ollama.client.stream("POST", "/api/chat", json={"model": "sky", "messages": ASK}) as answer:
                async for _ in answer.aiter_lines():
                    started.set()

        started = asyncio.Event()
        first = asyncio.create_task(stream(started))
        await started.wait()
        second = asyncio.create_task(ollama.post("/api/chat", {"model": "sky", "messages": ASK, "stream": False}))
        await until(ollama, lambda _: any(runner.waiting for runner in scheduler.runners.values()))
        second.cancel()
        first.cancel()
        await until(ollama, lambda _: all(runner.idle for runner in scheduler.runners.values()))
        await asyncio.gather(first, second, return_exceptions=True)


async def test_leaving_during_a_load_aborts_it(serve: Serve) -> None:
    """The model is not in memory afterwards."""
    async with serve(load_rate=1) as ollama:
        await ollama.make("sky")
        with pytest.raises(httpx.ReadTimeout):
            await ollama.client.post("/api/generate", json={"model": "sky"}, timeout=0.2)
        await until(ollama, lambda _: not ollama.server.runners.scheduler.runners)


async def test_a_model_that_loads_is_not_listed_yet(serve: Serve) -> None:
    """/api/ps shows it when it is in memory."""
    async with serve(load_rate=1) as ollama:
        await ollama.make("sky")
        asked = asyncio.create_task(ollama.client.post("/api/generate", json={"model": "sky"}))
        await until(ollama, lambda _: bool(ollama.server.runners.scheduler.runners))

        assert await ollama.loaded() == []
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)


async def test_two_names_of_the_same_weights_share_a_runner(ollama: Ollama) -> None:
    """And /api/ps shows the name that loaded it."""
    await ollama.client.post("/api/copy", json={"source": "sky", "destination": "heaven"})
    await ollama.post("/api/generate", {"model": "sky"})
    await ollama.post("/api/generate", {"model": "heaven"})

    assert await ollama.loaded() == ["sky:latest"]


async def test_a_missing_weight_blob_is_a_500_on_load(ollama: Ollama) -> None:
    """The model is listed and cannot be loaded."""
    model = ollama.server.store.read(next(iter(ollama.server.store.names())))
    assert model.weights is not None
    model.weights.unlink()
    answer = await ollama.client.post("/api/chat", json={"model": "sky", "messages": ASK})

    assert answer.status_code in {400, 500}
    assert [row["name"] for row in (await ollama.client.get("/api/tags")).json()["models"]] == ["sky:latest"]


async def test_options_of_the_runner_reload_it(ollama: Ollama) -> None:
    """Another num_ctx is another runner; the context shown is never more than the model was made for."""
    await ollama.post("/api/generate", {"model": "sky"})
    await ollama.post("/api/generate", {"model": "sky", "options": {"num_ctx": 2048}})
    small = (await ollama.client.get("/api/ps")).json()["models"][0]["context_length"]
    await ollama.post("/api/generate", {"model": "sky", "options": {"num_ctx": 99999}})
    large = (await ollama.client.get("/api/ps")).json()["models"][0]["context_length"]

    assert (small, large) == (2048, 4096)
