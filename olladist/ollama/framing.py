"""Errors in the shape that a client's own protocol has for them: as a body, and as the end of a stream.

Byte for byte what Ollama 0.17.4 sends; Anthropic's request_id is random there, and here.
"""

import json
import secrets

from olladist.ollama.routes import Dialect

# gin's own answers, text/plain on every route.
NOT_FOUND = b"404 page not found"
METHOD_NOT_ALLOWED = b"405 method not allowed"
PLAIN = "text/plain"

_JSON = "application/json"
_JSON_UTF8 = "application/json; charset=utf-8"

# anthropic.NewError; everything else is an api_error.
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}

# encoding/json writes these so that its output may stand in HTML and JavaScript.
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def encode(value: object) -> bytes:
    """JSON as Go's encoding/json writes it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPES)
    return text.encode("utf-8", "replace")


def error_body(dialect: Dialect, status: int, text: str, *, malformed: bool = False) -> bytes:
    """`malformed`: the request body itself was refused (BadBody), for which OpenAI clients are told another type."""
    if dialect is Dialect.OPENAI:
        # middleware/openai.go writeError calls every error of a handler an api_error, be it 404 or 400.
        kind = "invalid_request_error" if malformed and status == 400 else "api_error"
        code = None
        if status == 429:  # which Ollama never answers: as OpenAI's own says it, by which programs know to wait
            kind, code = "rate_limit_error", "rate_limit_exceeded"
        return _body({"error": {"message": text, "type": kind, "param": None, "code": code}}, malformed=malformed)
    if dialect is Dialect.ANTHROPIC:
        # Anthropic's clients show it to whoever asks for support; here it is only the shape that counts.
        body = {"type": "error", "error": _anthropic(status, text), "request_id": f"req_{secrets.token_hex(12)}"}
        return _body(body, malformed=malformed)
    return encode({"error": text})


def error_content_type(dialect: Dialect, *, malformed: bool = False) -> str:
    return _JSON_UTF8 if malformed or dialect is Dialect.OLLAMA else _JSON


def stream_error(dialect: Dialect, text: str, status: int = 500, *, events: bool = False) -> bytes:
    """The last thing in a stream that cannot go on; the status line has long been sent.

    Ollama's own NDJSON error line; an event that makes OpenAI's clients raise; Anthropic's error event. `events` is for
    /v1/responses, whose events have names: its error event, with the `error` beside it that makes the clients raise.
    """
    if dialect is Dialect.OPENAI and events:
        event = {"type": "error", "code": "server_error", "message": text, "param": None}
        inner = {"message": text, "type": "api_error", "param": None, "code": None}
        return b"event: error\ndata: " + encode({**event, "error": inner}) + b"\n\n"
    if dialect is Dialect.OPENAI:
        return b"data: " + error_body(dialect, status, text).rstrip() + b"\n\n"
    if dialect is Dialect.ANTHROPIC:
        return b"event: error\ndata: " + encode({"type": "error", "error": _anthropic(status, text)}) + b"\n\n"
    return encode({"error": text}) + b"\n"


def _anthropic(status: int, text: str) -> dict[str, str]:
    return {"type": _ANTHROPIC_TYPES.get(status, "api_error"), "message": text}


def _body(value: object, *, malformed: bool) -> bytes:
    # The middlewares' writers use json.Encoder, which ends with a newline; gin's c.JSON does not.
    return encode(value) + (b"" if malformed else b"\n")
