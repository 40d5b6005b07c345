"""OpenAI's Responses API (compared word by word with a real Ollama's in tests/lab/test_sim_conformance.py)."""

import json

import zstandard

from tests.sim.conftest import SENTENCE, Ollama


async def test_events_are_numbered_and_end_with_the_whole_response(ollama: Ollama) -> None:
    """From created to completed, the text in deltas and once more as a whole."""
    answer = await ollama.client.post("/v1/responses", json={"model": "sky", "input": "why?", "stream": True})
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data: ")]

    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert (events[0]["type"], events[-1]["type"]) == ("response.created", "response.completed")
    assert "".join(event["delta"] for event in events if "delta" in event).strip() == SENTENCE
    assert events[-1]["response"]["output"][0]["content"][0]["text"].strip() == SENTENCE
    assert events[-1]["response"]["usage"]["output_tokens"] == 11


async def test_input_may_be_items_and_compressed(ollama: Ollama) -> None:
    """Messages with text parts, in a zstd body; what zstd cannot read is a 400."""
    item = {"role": "user", "content": [{"type": "input_text", "text": "why?"}]}
    body = json.dumps({"model": "sky", "input": [item], "instructions": "Be."}).encode()
    headers = {"content-encoding": "zstd"}
    good = await ollama.client.post("/v1/responses", content=zstandard.compress(body), headers=headers)
    bad = await ollama.client.post("/v1/responses", content=b"x" * 20, headers=headers)

    assert good.json()["output"][0]["content"][0]["text"].strip() == SENTENCE
    assert good.json()["instructions"] == "Be."
    assert bad.status_code == 400


async def test_unknown_items_are_refused(ollama: Ollama) -> None:
    """With the number of the item."""
    answer = await ollama.client.post("/v1/responses", json={"model": "sky", "input": [{"type": "dance"}]})

    assert answer.json()["error"]["message"] == "input[0]: unknown input item type: dance"
