"""Anthropic's Messages API over chat (middleware/anthropic.go, anthropic/anthropic.go)."""

import secrets
from typing import Any

from olladist.ollama.framing import encode
from olladist.sim import shapes
from olladist.sim.golang import Document, decode
from olladist.sim.reply import EVENTS, JSON, Refused, Writer

_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


def error(status: int, text: str) -> bytes:
    shown = {"type": _ERRORS.get(status, "api_error"), "message": text}
    return encode({"type": "error", "error": shown, "request_id": f"req_{secrets.token_hex(12)}"})


def failure(status: int, text: str) -> bytes:
    return error(status, text) + b"\n"


def messages(body: bytes) -> tuple[Document, Writer]:
    request = decode(body, shapes.MESSAGES)
    if not request.get("model"):
        raise Refused(400, "model is required")
    if request.get("max_tokens", 0) <= 0:
        raise Refused(400, "max_tokens is required and must be positive")
    if not request.get("messages"):
        raise Refused(400, "messages is required")
    system = _text(request.get("system"))
    given = [
        {"role": message.get("role", ""), "content": _text(message.get("content"))} for message in request["messages"]
    ]
    native = {
        "model": request["model"],
        "messages": ([{"role": "system", "content": system}] if system else []) + given,
        "stream": request.get("stream", False),
        "options": {"num_predict": request["max_tokens"], "stop": request.get("stop_sequences", [])},
        "tools": request.get("tools", []),
    }
    name = f"msg_{secrets.token_hex(12)}"
    if not native["stream"]:
        return native, Writer(
            lambda document: encode(_answer(name, document)) + b"\n",
            encode,
            failure,
            answer_type=JSON,
            failure_type=JSON,
        )
    events = _Events(name, request["model"], _estimate(request))
    headers = {"Cache-Control": "no-cache", "Connection": "keep-alive"}
    return native, Writer(
        events.chunk, events.chunk, failure, answer_type=EVENTS, stream_type=EVENTS, failure_type=JSON, headers=headers
    )


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(block.get("text", "")) for block in content if isinstance(block, dict))
    return content if isinstance(content, str) else ""


def _estimate(request: Document) -> int:
    """Input tokens as message_start guesses them: a quarter of the characters (estimateTokens)."""
    length = len(_text(request.get("system")))
    for message in request["messages"]:
        length += len(message.get("role", "")) + len(_text(message.get("content")))
    return length // 4 or 1


def _stop_reason(reason: str) -> str:
    return {"stop": "end_turn", "length": "max_tokens", "": ""}.get(reason, "stop_sequence")


def _usage(document: Document) -> Document:
    return {"input_tokens": document.get("prompt_eval_count", 0), "output_tokens": document.get("eval_count", 0)}


def _answer(name: str, document: Document) -> Document:
    text = document["message"]["content"]
    return {
        "id": name,
        "type": "message",
        "role": "assistant",
        "model": document["model"],
        "content": [{"type": "text", "text": text}] if text else None,
        "stop_reason": _stop_reason(document.get("done_reason", "")),
        "usage": _usage(document),
    }


def event(kind: str, data: Document) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + encode({"type": kind} | data) + b"\n\n"


class _Events:
    """The events of one stream: chunks in, bytes out."""

    def __init__(self, name: str, model: str, estimate: int) -> None:
        self.name = name
        self.model = model
        self.estimate = estimate
        self.begun = self.open = False

    def chunk(self, document: Document) -> bytes:
        lines = b""
        if not self.begun:
            self.begun = True
            usage = {"input_tokens": document.get("prompt_eval_count") or self.estimate, "output_tokens": 0}
            message = {"id": self.name, "type": "message", "role": "assistant", "model": self.model, "content": []}
            lines += event("message_start", {"message": message | {"usage": usage}})
        if text := document.get("message", {}).get("content"):
            if not self.open:
                self.open = True
                lines += event("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}})
            lines += event("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": text}})
        if document.get("done"):
            if self.open:
                lines += event("content_block_stop", {"index": 0})
            delta = {"stop_reason": _stop_reason(document.get("done_reason", ""))}
            lines += event("message_delta", {"delta": delta, "usage": _usage(document)})
            lines += event("message_stop", {})
        return lines
