import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.ollama.framing import error_body, error_content_type, stream_error
from olladist.ollama.routes import Dialect

UTF8 = "application/json; charset=utf-8"


@pytest.mark.parametrize(
    ("dialect", "status", "text", "malformed", "body", "content_type"),
    [
        (Dialect.OLLAMA, 404, "model 'no' not found", False, b'{"error":"model \'no\' not found"}', UTF8),
        (Dialect.OLLAMA, 400, 'source "a<" is invalid', False, b'{"error":"source \\"a\\u003c\\" is invalid"}', UTF8),
        (
            Dialect.OPENAI,
            404,
            "model 'no' not found",
            False,
            b'{"error":{"message":"model \'no\' not found","type":"api_error","param":null,"code":null}}\n',
            "application/json",
        ),
        (
            Dialect.OPENAI,
            400,
            "unexpected EOF",
            True,
            b'{"error":{"message":"unexpected EOF","type":"invalid_request_error","param":null,"code":null}}',
            UTF8,
        ),
        (
            Dialect.OPENAI,
            429,
            "wait",
            False,
            b'{"error":{"message":"wait","type":"rate_limit_error","param":null,"code":"rate_limit_exceeded"}}\n',
            "application/json",
        ),
        (
            Dialect.ANTHROPIC,
            429,
            "wait",
            False,
            b'{"type":"error","error":{"type":"rate_limit_error","message":"wait"}}\n',
            "application/json",
        ),
        (
            Dialect.ANTHROPIC,
            404,
            "model 'no' not found",
            False,
            b'{"type":"error","error":{"type":"not_found_error","message":"model \'no\' not found"}}\n',
            "application/json",
        ),
        (
            Dialect.ANTHROPIC,
            503,
            "busy",
            False,
            b'{"type":"error","error":{"type":"overloaded_error","message":"busy"}}\n',
            "application/json",
        ),
    ],
)
def test_errors_have_the_shape_of_the_dialect(
    dialect: Dialect, status: int, text: str, malformed: bool, body: bytes, content_type: str
) -> None:
    """Byte for byte what 0.17.4 sends, less Anthropic's request_id; 429, which it never sends, as the other two say it."""
    given = error_body(dialect, status, text, malformed=malformed)

    assert re.sub(rb',"request_id":"req_[0-9a-f]{24}"', b"", given) == body
    assert error_content_type(dialect, malformed=malformed) == content_type


@pytest.mark.parametrize(
    ("dialect", "line"),
    [
        (Dialect.OLLAMA, b'{"error":"gpu1 went away"}\n'),
        (
            Dialect.OPENAI,
            b'data: {"error":{"message":"gpu1 went away","type":"api_error","param":null,"code":null}}\n\n',
        ),
        (
            Dialect.ANTHROPIC,
            b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"gpu1 went away"}}\n\n',
        ),
    ],
)
def test_a_stream_ends_with_an_error_of_its_own_protocol(dialect: Dialect, line: bytes) -> None:
    """An NDJSON line, an event that OpenAI's clients raise, Anthropic's error event."""
    assert stream_error(dialect, "gpu1 went away") == line


def test_a_stream_of_named_events_ends_with_an_error_event() -> None:
    """/v1/responses: the event of its protocol, with the member beside it that makes OpenAI's clients raise."""
    event, data = stream_error(Dialect.OPENAI, "gpu1 went away", events=True).split(b"\n", 1)

    assert event == b"event: error"
    assert data.endswith(b"\n\n")
    told = json.loads(data.removeprefix(b"data: "))
    assert told["type"] == "error"
    assert told["message"] == told["error"]["message"] == "gpu1 went away"


@given(st.sampled_from(Dialect), st.integers(400, 599), st.text())
def test_any_text_stays_on_one_line_of_json(dialect: Dialect, status: int, text: str) -> None:
    """Whatever the text holds, the frame holds; lone surrogates are replaced."""
    shown = text.encode("utf-8", "replace").decode()
    lines = stream_error(dialect, text, status).rstrip(b"\n").split(b"\n")
    payload = json.loads(lines[-1].removeprefix(b"data: "))

    assert len(lines) == (2 if dialect is Dialect.ANTHROPIC else 1)
    error = payload["error"]
    assert (error if dialect is Dialect.OLLAMA else error["message"]) == shown
