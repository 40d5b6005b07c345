"""OpenAI's routes (compared word by word with a real Ollama's in tests/lab/test_sim_conformance.py)."""

import json

from tests.sim.conftest import ASK, SENTENCE, Ollama


async def test_a_chat_streams_as_events_and_ends_with_done(ollama: Ollama) -> None:
    """Chunks of one id, the reason in the last, usage where it is asked for."""
    body = {"model": "sky", "messages": ASK, "stream": True, "stream_options": {"include_usage": True}}
    answer = await ollama.client.post("/v1/chat/completions", json=body)
    events = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    chunks = [json.loads(event) for event in events[:-1]]

    assert answer.headers["content-type"] == "text/event-stream"
    assert events[-1] == "[DONE]"
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks[:-1]).strip() == SENTENCE
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"] == {"prompt_tokens": 8, "completion_tokens": 11, "total_tokens": 19}


async def test_whole_answers_models_and_embeddings(ollama: Ollama) -> None:
    """The other routes answer with OpenAI's documents."""
    chat = await ollama.post("/v1/chat/completions", {"model": "sky", "messages": ASK})
    text = await ollama.post("/v1/completions", {"model": "sky", "prompt": "x", "max_tokens": 2})
    vectors = await ollama.post("/v1/embeddings", {"model": "sky", "input": ["a", "b"], "encoding_format": "base64"})
    models = (await ollama.client.get("/v1/models")).json()
    one = (await ollama.client.get("/v1/models/sky")).json()

    assert chat["choices"][0]["message"]["content"].strip() == SENTENCE
    assert text["choices"] == [{"text": " The sky", "index": 0, "finish_reason": "length"}]
    assert [row["index"] for row in vectors["data"]] == [0, 1]
    assert isinstance(vectors["data"][0]["embedding"], str)
    assert models["data"][0]["id"] == "sky:latest"
    assert (one["id"], one["owned_by"]) == ("sky", "library")


async def test_errors_have_openais_shape(ollama: Ollama) -> None:
    """A request that cannot be read is an invalid_request_error, everything else an api_error."""
    unread = await ollama.client.post("/v1/chat/completions", content=b"{")
    unknown = await ollama.client.post("/v1/chat/completions", json={"model": "nope", "messages": ASK})

    assert unread.status_code == 400
    assert unread.json()["error"] == {
        "message": "unexpected EOF",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
    assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "api_error")
