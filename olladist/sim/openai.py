"""The OpenAI dialect: requests turned into Ollama's own, answers written as OpenAI's (middleware/openai.go, openai/openai.go)."""

import base64
import random
import struct
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from olladist.ollama.framing import encode, error_body
from olladist.ollama.names import split_name
from olladist.ollama.routes import Dialect
from olladist.sim import shapes
from olladist.sim.golang import Document, decode, kind_of
from olladist.sim.reply import EVENTS, JSON, Refused, Writer


def error(status: int, text: str) -> bytes:
    return error_body(Dialect.OPENAI, status, text, malformed=True)


def failure(status: int, text: str) -> bytes:
    return error_body(Dialect.OPENAI, status, text)


def event(document: Document) -> bytes:
    return b"data: " + encode(document) + b"\n\n"


def writer(whole: Callable[[Document], Document]) -> Writer:
    """For a route that answers with one document."""

    def line(document: Document) -> bytes:
        return encode(whole(document)) + b"\n"

    return Writer(line, line, failure, answer_type=JSON, failure_type=JSON)


def streaming(chunk: Callable[[Document], bytes]) -> Writer:
    return Writer(chunk, chunk, failure, answer_type=EVENTS, stream_type=EVENTS, failure_type=JSON)


def _number() -> int:
    return random.randrange(999)  # noqa: S311  as Ollama numbers its answers


def created(document: Document) -> int:
    """Seconds since 1970 of created_at or modified_at."""
    moment = document.get("created_at") or document.get("modified_at") or ""
    if not moment:
        return int(time.time())
    whole, _, _ = moment.partition(".")
    zone = "Z" if moment.endswith("Z") else moment[-6:]
    return int(datetime.fromisoformat(whole.removesuffix("Z").removesuffix(zone) + zone).timestamp())


def usage(document: Document) -> Document:
    prompt, answer = document.get("prompt_eval_count", 0), document.get("eval_count", 0)
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}


def _native_options(request: Document) -> Document:
    """Sampling options under Ollama's names; temperature and top_p are 1 where the client says nothing."""
    options: Document = {"temperature": request.get("temperature", 1.0), "top_p": request.get("top_p") or 1.0}
    stop = request.get("stop")
    if isinstance(stop, str):
        options["stop"] = [stop]
    elif isinstance(stop, list):
        options["stop"] = [text for text in stop if isinstance(text, str)]
    if "max_tokens" in request:
        options["num_predict"] = request["max_tokens"]
    return options


def _native_messages(messages: list[Any]) -> list[Document]:
    native = []
    for message in messages:
        content = (message or {}).get("content")
        if isinstance(content, str):
            native.append({"role": message.get("role", ""), "content": content})
        elif isinstance(content, list):
            native += [{"role": message.get("role", ""), "content": _text_part(part)} for part in content]
        elif not (message or {}).get("tool_calls"):
            go_types = {"null": "<nil>", "number": "float64", "bool": "bool", "object": "map[string]interface {}"}
            raise Refused(400, f"invalid message content type: {go_types[kind_of(content)]}")
    return native


def _text_part(part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    if kind == "image_url":
        return ""
    raise Refused(400, "invalid message format")


def chat(body: bytes) -> tuple[Document, Writer]:
    request = decode(body, shapes.OPENAI_CHAT)
    if not request.get("messages"):
        raise Refused(400, "[] is too short - 'messages'")
    native = {
        "model": request.get("model", ""),
        "messages": _native_messages(request["messages"]),
        "stream": request.get("stream", False),
        "options": _native_options(request),
        "tools": request.get("tools", []),
    }
    name = f"chatcmpl-{_number()}"
    if not native["stream"]:
        return native, writer(lambda document: _chat_answer(name, document))
    counted = bool((request.get("stream_options") or {}).get("include_usage"))
    return native, streaming(lambda document: _chat_chunk(name, document, counted=counted))


def _head(name: str, kind: str, document: Document, when: int) -> Document:
    return {
        "id": name,
        "object": kind,
        "created": when,
        "model": document.get("model", ""),
        "system_fingerprint": "fp_ollama",
    }


def _chat_answer(name: str, document: Document) -> Document:
    choice = {"index": 0, "message": document["message"], "finish_reason": document.get("done_reason")}
    head = _head(name, "chat.completion", document, created(document))
    return head | {"choices": [choice], "usage": usage(document)}


def _chat_chunk(name: str, document: Document, *, counted: bool) -> bytes:
    head = _head(name, "chat.completion.chunk", document, int(time.time()))
    delta = {"role": "assistant", "content": document.get("message", {}).get("content", "")}
    choice = {"index": 0, "delta": delta, "finish_reason": document.get("done_reason")}
    lines = event(head | {"choices": [choice]})
    if document.get("done"):
        if counted:
            lines += event(head | {"choices": [], "usage": usage(document)})
        lines += b"data: [DONE]\n\n"
    return lines


def completion(body: bytes) -> tuple[Document, Writer]:
    request = decode(body, shapes.OPENAI_COMPLETION)
    if isinstance(request.get("stop"), list):
        for item in request["stop"]:
            if not isinstance(item, str):
                raise Refused(400, f"invalid type for 'stop' field: {kind_of(item)}")
    native = {
        "model": request.get("model", ""),
        "prompt": request.get("prompt", ""),
        "suffix": request.get("suffix", ""),
        "stream": request.get("stream", False),
        "options": _native_options(request),
    }
    name = f"cmpl-{_number()}"
    if not native["stream"]:
        return native, writer(lambda document: _completion_answer(name, document))
    counted = bool((request.get("stream_options") or {}).get("include_usage"))
    return native, streaming(lambda document: _completion_chunk(name, document, counted=counted))


def _completion_choice(document: Document) -> Document:
    return {"text": document.get("response", ""), "index": 0, "finish_reason": document.get("done_reason")}


def _completion_answer(name: str, document: Document) -> Document:
    head = _head(name, "text_completion", document, created(document))
    return head | {"choices": [_completion_choice(document)], "usage": usage(document)}


def _completion_chunk(name: str, document: Document, *, counted: bool) -> bytes:
    def line(choices: list[Document], counts: Document | None) -> bytes:
        chunk: Document = {
            "id": name,
            "object": "text_completion",
            "created": int(time.time()),
            "choices": choices,
            "model": document.get("model", ""),
            "system_fingerprint": "fp_ollama",
        }
        return event(chunk | ({} if counts is None else {"usage": counts}))

    lines = line([_completion_choice(document)], usage({}) if counted else None)
    if document.get("done"):
        lines += line([], usage(document)) if counted else b""
        lines += b"data: [DONE]\n\n"
    return lines


def embeddings(body: bytes) -> tuple[Document, Writer]:
    request = decode(body, shapes.OPENAI_EMBED)
    form = request.get("encoding_format", "")
    if form and form.lower() not in {"float", "base64"}:
        text = f"Invalid value for 'encoding_format' = {form}. Supported values: ['float', 'base64']."
        raise Refused(400, text)
    given = request.get("input")
    given = [""] if given == "" else given
    if given is None or given == []:
        raise Refused(400, "invalid input")
    asked = request.get("model", "")
    native = {"model": asked, "input": given, "dimensions": request.get("dimensions", 0)}
    return native, writer(lambda document: _embedding_list(asked, document, packed=form.lower() == "base64"))


def _embedding_list(asked: str, document: Document, *, packed: bool) -> Document:
    data = [
        {
            "object": "embedding",
            "embedding": base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() if packed else vector,
            "index": index,
        }
        for index, vector in enumerate(document["embeddings"])
    ]
    count = document.get("prompt_eval_count", 0)
    return {
        "object": "list",
        "data": data,
        "model": asked,
        "usage": {"prompt_tokens": count, "total_tokens": count},
    }


def models(body: bytes) -> tuple[Document, Writer]:
    def listed(document: Document) -> Document:
        rows = [_model(row["name"], row) for row in document["models"]]
        return {"object": "list", "data": rows or None}

    return {}, writer(listed)


def model(name: str) -> tuple[Document, Writer]:
    """GET /v1/models/:model, which is a show."""
    return {"name": name}, writer(lambda document: _model(name, document))


def _model(name: str, document: Document) -> Document:
    owner = split_name(name).namespace
    return {"id": name, "object": "model", "created": created(document), "owned_by": owner}
