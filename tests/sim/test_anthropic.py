"""Anthropic's messages (compared word by word with a real Ollama's in tests/lab/test_sim_conformance.py)."""

import json

from tests.sim.conftest import ASK, SENTENCE, Ollama


async def test_a_message_streams_as_named_events(ollama: Ollama) -> None:
    """One block of text between its start and its stop, then the reason, then the end."""
    body = {"model": "sky", "max_tokens": 50, "messages": ASK, "stream": True}
    answer = await ollama.client.post("/v1/messages", json=body)
    names = [line.removeprefix("event: ") for line in answer.text.splitlines() if line.startswith("event: ")]
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data: ")]

    assert names == [event["type"] for event in events]
    assert names == [
        *("message_start", "content_block_start"),
        *["content_block_delta"] * 10,
        *("content_block_stop", "message_delta", "message_stop"),
    ]
    assert "".join(event["delta"]["text"] for event in events[2:12]).strip() == SENTENCE
    assert events[-2]["delta"] == {"stop_reason": "end_turn"}


async def test_a_whole_message(ollama: Ollama) -> None:
    """Text blocks in, one text block out; too few tokens are told."""
    blocks = [{"role": "user", "content": [{"type": "text", "text": "why?"}]}]
    body = {"model": "sky", "max_tokens": 2, "messages": blocks, "system": [{"type": "text", "text": "Be."}]}
    answer = await ollama.post("/v1/messages", body)

    assert answer["content"] == [{"type": "text", "text": " The sky"}]
    assert (answer["stop_reason"], answer["usage"]["output_tokens"]) == ("max_tokens", 2)


async def test_errors_have_anthropics_shape(ollama: Ollama) -> None:
    """With a type by status and a request id."""
    missing = await ollama.client.post("/v1/messages", json={"model": "sky", "max_tokens": 5})
    unknown = await ollama.client.post("/v1/messages", json={"model": "nope", "max_tokens": 5, "messages": ASK})

    assert missing.json()["error"] == {"type": "invalid_request_error", "message": "messages is required"}
    assert unknown.json()["error"]["type"] == "not_found_error"
    assert unknown.json()["request_id"].startswith("req_")
