"""OpenAI's Responses API over chat: the request, the answer, and the named events of a stream (openai/responses.go)."""

import random
import time
from typing import Any

import zstandard

from olladist.ollama.framing import encode
from olladist.sim import shapes
from olladist.sim.golang import Document, Malformed, decode, in_order, kind_of
from olladist.sim.openai import created, failure, writer
from olladist.sim.reply import EVENTS, JSON, Refused, Writer

_INFLATED_MAX = 8 * 2**20  # zstd.WithDecoderMaxMemory(8<<20)


def inflate(body: bytes) -> bytes:
    """The body of a request with Content-Encoding: zstd; only this route reads one in 0.17.4."""
    try:
        with zstandard.ZstdDecompressor().stream_reader(body) as reader:
            return reader.read(_INFLATED_MAX)
    except zstandard.ZstdError as error:
        raise Malformed(str(error)) from None


def request(body: bytes) -> tuple[Document, Writer]:
    asked = decode(body, shapes.RESPONSES)
    native = {
        "model": asked.get("model", ""),
        "messages": _messages(asked),
        "stream": asked.get("stream", False),
        "options": {"temperature": asked.get("temperature", 1.0)},
    }
    if "max_output_tokens" in asked:
        native["options"]["num_predict"] = asked["max_output_tokens"]
    numbers = f"resp_{random.randrange(999999)}", f"msg_{random.randrange(999999)}"  # noqa: S311  as Ollama numbers them
    if not native["stream"]:
        return native, writer(lambda document: _answer(asked, *numbers, document))
    events = _Events(asked, *numbers)
    headers = {"Cache-Control": "no-cache", "Connection": "keep-alive"}
    return native, Writer(
        events.chunk, events.chunk, failure, answer_type=EVENTS, stream_type=EVENTS, failure_type=JSON, headers=headers
    )


def _messages(asked: Document) -> list[Document]:
    messages = [{"role": "system", "content": asked["instructions"]}] if asked.get("instructions") else []
    given = asked.get("input")
    if isinstance(given, str):
        return messages + ([{"role": "user", "content": given}] if given else [])
    if given is None:
        return messages
    if not isinstance(given, list):
        text = f"json: cannot unmarshal {kind_of(given)} into Go value of type []json.RawMessage"
        raise Refused(400, f"input must be a string or array: {text}")
    return messages + [_message(index, item) for index, item in enumerate(given)]


def _message(index: int, item: Any) -> Document:
    kind = item.get("type") or ("message" if item.get("role") else "") if isinstance(item, dict) else ""
    if kind in {"function_call", "reasoning"}:
        return {"role": "assistant", "content": ""}
    if kind == "function_call_output":
        return {"role": "tool", "content": str(item.get("output", ""))}
    if kind != "message":
        raise Refused(400, f"input[{index}]: unknown input item type: {kind}")
    content = item.get("content") or ""
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return {"role": item.get("role", ""), "content": content}


def _text(text: str) -> list[Document]:
    return [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]


def _usage(document: Document) -> Document:
    read, said = document.get("prompt_eval_count", 0), document.get("eval_count", 0)
    return {
        "input_tokens": read,
        "output_tokens": said,
        "total_tokens": read + said,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }


def _response(asked: Document, name: str, status: str, output: list[Document], usage: Document | None) -> Document:
    return {
        "id": name,
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": status,
        "incomplete_details": None,
        "model": asked.get("model", ""),
        "previous_response_id": None,
        "instructions": asked.get("instructions") or None,
        "output": output,
        "error": None,
        "tools": asked.get("tools", []),
        "tool_choice": "auto",
        "truncation": asked.get("truncation", "disabled"),
        "parallel_tool_calls": True,
        "text": {"format": {"type": "text"}},
        "top_p": asked.get("top_p", 1),
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "top_logprobs": 0,
        "temperature": asked.get("temperature", 1),
        "reasoning": None,
        "usage": usage,
        "max_output_tokens": asked.get("max_output_tokens"),
        "max_tool_calls": None,
        "store": False,
        "background": asked.get("background", False),
        "service_tier": "default",
        "metadata": {},
        "safety_identifier": None,
        "prompt_cache_key": None,
    }


def _item(name: str, status: str, content: list[Document]) -> Document:
    return {"id": name, "type": "message", "status": status, "role": "assistant", "content": content}


def _answer(asked: Document, name: str, item: str, document: Document) -> Document:
    output = [_item(item, "completed", _text(document["message"]["content"]))]
    response = _response(asked, name, "completed", output, _usage(document))
    return response | {"created_at": created(document), "completed_at": int(time.time())}


class _Events:
    """The events of one stream, numbered; chunks in, bytes out."""

    def __init__(self, asked: Document, name: str, item: str) -> None:
        self.asked = asked
        self.name = name
        self.item = item
        self.number = 0
        self.text = ""

    def event(self, kind: str, data: Document) -> bytes:
        document = data | {"type": kind, "sequence_number": self.number}
        self.number += 1
        return b"event: " + kind.encode() + b"\ndata: " + encode(in_order(document)) + b"\n\n"

    def chunk(self, document: Document) -> bytes:
        lines = b""
        if not self.number:
            begun = {"response": _response(self.asked, self.name, "in_progress", [], None)}
            lines += self.event("response.created", begun) + self.event("response.in_progress", begun)
        if content := document.get("message", {}).get("content"):
            lines += self._content(content)
        if document.get("done"):
            lines += self._end(document)
        return lines

    def _content(self, content: str) -> bytes:
        place = {"item_id": self.item, "output_index": 0, "content_index": 0}
        lines = b""
        if not self.text:
            item = {"output_index": 0, "item": _item(self.item, "in_progress", [])}
            lines += self.event("response.output_item.added", item)
            lines += self.event("response.content_part.added", place | {"part": _text("")[0]})
        self.text += content
        return lines + self.event("response.output_text.delta", place | {"delta": content, "logprobs": []})

    def _end(self, document: Document) -> bytes:
        lines, output = b"", []
        if self.text:
            place = {"item_id": self.item, "output_index": 0, "content_index": 0}
            output = [_item(self.item, "completed", _text(self.text))]
            lines += self.event("response.output_text.done", place | {"text": self.text, "logprobs": []})
            lines += self.event("response.content_part.done", place | {"part": _text(self.text)[0]})
            lines += self.event("response.output_item.done", {"output_index": 0, "item": output[0]})
        response = _response(self.asked, self.name, "completed", output, _usage(document))
        return lines + self.event("response.completed", {"response": response | {"completed_at": int(time.time())}})
