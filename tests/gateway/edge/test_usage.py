import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.edge.usage import usage_of
from olladist.gateway.lease import NO_USAGE, Done, Usage, pack
from olladist.ollama.routes import ROUTES, Route

BY_NAME = {route.name: route for route in ROUTES}
TEXT_ROUTES = [route for route in ROUTES if route.inference]

METRICS = (
    b'"total_duration":4935886791,"load_duration":534986708,"prompt_eval_count":26,"prompt_eval_duration":107345000,'
    b'"eval_count":298,"eval_duration":4289432000'
)
MEASURED = Usage(26, 298, 0.534986708, 0.107345, 4.289432)
FINAL_LINE = (
    b'{"model":"m","created_at":"2026-01-01T00:00:00Z","response":"","done":true,"context":[1,2],%b}\n' % METRICS
)

# The ends of answers of Ollama 0.17.4, as its middleware writes them.
CHAT = (
    b'{"id":"chatcmpl-1","choices":[{"index":0}],"usage":{"prompt_tokens":7,"completion_tokens":9,"total_tokens":16}}\n'
)
CHAT_EVENTS = (
    b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":9,"total_tokens":16}}\n\ndata: [DONE]\n\n'
)
COMPLETION_EVENTS = (
    b'data: {"choices":[{"text":"x"}],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":9,"total_tokens":16}}\n\ndata: [DONE]\n\n'
)
EMBEDDINGS = (
    b'{"object":"list","data":[{"embedding":[0.1]}],"model":"m","usage":{"prompt_tokens":7,"total_tokens":7}}\n'
)
MESSAGE = b'{"id":"msg_1","content":[{"type":"text","text":"x"}],"usage":{"input_tokens":7,"output_tokens":9}}\n'
MESSAGE_EVENTS = (
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
    b'"usage":{"input_tokens":7,"output_tokens":9}}\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n'
)
RESPONSE = b'{"id":"resp_1","output":[],"usage":{"input_tokens":7,"output_tokens":9,"total_tokens":16},"metadata":{}}\n'
RESPONSE_EVENTS = (
    b'event: response.completed\ndata: {"response":{"output":[{"text":"x"}],"usage":{"input_tokens":7,'
    b'"output_tokens":9,"output_tokens_details":{"reasoning_tokens":0}}},"type":"response.completed"}\n\n'
)


def usage(route: str, body: bytes, *, asked: int = 400) -> Usage:
    return usage_of(BY_NAME[route], [body], len(body), asked, chunked=False)


def in_chunks(body: bytes, at: int) -> bytes:
    pieces = [piece for piece in (body[:at], body[at:]) if piece]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize("route", ["generate", "chat", "embed"])
def test_ollama_s_own_metrics_are_read(route: str) -> None:
    """Both counts and three durations, in seconds."""
    assert usage(route, FINAL_LINE) == MEASURED


@pytest.mark.parametrize("before", [b"", b'{"response":"a","done":false}\n' * 50])
@pytest.mark.parametrize("cut", [1, 70, len(FINAL_LINE) - 30])
def test_the_framing_of_chunks_is_no_part_of_a_line(before: bytes, cut: int) -> None:
    """Wherever a chunk ends, also in the middle of a number."""
    framed = in_chunks(before + FINAL_LINE, len(before) + cut)

    assert usage_of(BY_NAME["generate"], [framed[:9], framed[9:]], len(framed), 400, chunked=True) == MEASURED


def test_metrics_behind_a_huge_context_are_found() -> None:
    """The line is longer than what is looked at; its end holds all that counts."""
    context = b",".join(b"%d" % number for number in range(300_000))
    line = b'{"response":"","done":true,"context":[' + context + b"]," + METRICS + b"}\n"

    assert usage("generate", line) == MEASURED


def test_what_a_model_says_is_not_taken_for_metrics() -> None:
    """In a string the quotes are escaped; in the arguments of a tool call they stand before the true ones."""
    said = json.dumps({"content": '"eval_count":1,', "tool_calls": [{"function": {"arguments": {"eval_count": 1}}}]})
    line = b'{"message":' + said.encode() + b',"done":true,' + METRICS + b"}"

    assert usage("chat", line) == MEASURED
    assert usage("chat", line[3:]) == MEASURED


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("v1/chat/completions", CHAT),
        ("v1/chat/completions", CHAT_EVENTS),
        ("v1/completions", COMPLETION_EVENTS),
        ("v1/messages", MESSAGE),
        ("v1/messages", MESSAGE_EVENTS),
        ("v1/responses", RESPONSE),
        ("v1/responses", RESPONSE_EVENTS),
        ("v1/responses", RESPONSE_EVENTS[60:]),
    ],
)
def test_other_dialects_have_their_counts_read(route: str, body: bytes) -> None:
    """Bodies and streams of OpenAI's and Anthropic's routes; they carry no durations."""
    assert usage(route, body) == Usage(7, 9)


def test_embeddings_have_a_prompt_only() -> None:
    """OpenAI's list counts what went in."""
    assert usage("v1/embeddings", EMBEDDINGS) == Usage(7, -1)


@pytest.mark.parametrize("reason", [b"load", b"unload"])
def test_a_model_that_was_only_loaded_has_used_nothing(reason: bytes) -> None:
    """There is nothing to estimate either."""
    assert usage("generate", b'{"response":"","done":true,"done_reason":"%b"}' % reason) == NO_USAGE


@pytest.mark.parametrize(
    ("route", "event"),
    [
        ("v1/chat/completions", b'data: {"choices":[{"delta":{"content":"a word"}}]}\n\n'),
        ("v1/completions", b'data: {"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}\n\n'),
        ("v1/messages", b'event: content_block_delta\ndata: {"type":"content_block_delta"}\n\n'),
        ("chat", b'{"message":{"content":"a word"},"done":false}\n'),
    ],
)
def test_a_stream_without_counts_is_estimated_by_its_events(route: str, event: bytes) -> None:
    """Each is a token: 1000 of them, of which the last 20 were kept, are about 1000 tokens; the prompt is a quarter of its bytes."""
    estimate = usage_of(BY_NAME[route], [event * 20], len(event) * 1000, 400, chunked=False)

    assert estimate.estimated
    assert estimate.prompt_tokens == 100
    assert 900 <= estimate.output_tokens <= 1100


def test_an_answer_without_counts_is_estimated_by_its_bytes() -> None:
    """A vector has no output at all; pictures and sound are no text, and nothing is said of them."""
    assert usage("embeddings", b'{"embedding":[0.1,0.2]}') == Usage(100, 0, estimated=True)
    assert usage("v1/messages", b'{"content":"' + b"x" * 388) == Usage(100, 100, estimated=True)
    assert usage("v1/audio/transcriptions", b'{"text":"x"}') == NO_USAGE


@pytest.mark.parametrize("number", [b"-5", b"9007199254740993", b"99999999999999999999999", b"1.5", b'"7"', b"null"])
def test_a_number_that_is_no_count_is_unknown(number: bytes) -> None:
    """What cannot be has not been said."""
    assert usage("generate", b'{"done":true,"eval_count":%b,"prompt_eval_count":7}' % number).output_tokens == -1


ends = st.sampled_from(
    [FINAL_LINE, CHAT, CHAT_EVENTS, COMPLETION_EVENTS, MESSAGE, MESSAGE_EVENTS, RESPONSE, RESPONSE_EVENTS, EMBEDDINGS]
)


@given(st.sampled_from(TEXT_ROUTES), ends, st.data(), st.booleans())
def test_an_answer_cut_anywhere_never_does_harm(route: Route, body: bytes, data: st.DataObject, chunked: bool) -> None:
    """Any part of any answer, on any route: a usage comes out that lease.sock can carry."""
    start = data.draw(st.integers(0, len(body)))
    part = body[start : data.draw(st.integers(start, len(body)))]

    found = usage_of(route, [part], len(part), 100, chunked=chunked)

    assert pack(Done(1, 1, "served", 200, usage=found))


json_like = st.lists(
    st.sampled_from([b'"usage":', b'"eval_count":', b"{", b"}", b"[", b"]", b"12", b"-1", b"9" * 30, b'"', b"\n", b","])
    | st.binary(max_size=8),
    max_size=60,
).map(b"".join)


@given(st.sampled_from(TEXT_ROUTES), st.lists(json_like, max_size=4), st.integers(0, 2**40), st.booleans())
def test_garbage_never_raises(route: Route, pieces: list[bytes], received: int, chunked: bool) -> None:
    """Bytes of a backend that has gone mad."""
    assert pack(Done(1, 1, "served", 200, usage=usage_of(route, pieces, received, 0, chunked=chunked)))


def test_brackets_without_end_are_no_stack_overflow() -> None:
    """Nesting deeper than a decoder follows."""
    assert usage("chat", b'{"eval_count":' * 60_000).estimated
    assert usage("v1/messages", b'{"usage":' + b"[" * 60_000).estimated
