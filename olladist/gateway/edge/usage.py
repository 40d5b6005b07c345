"""What an answer has cost: counts and durations out of its last bytes, read once it is over. Pure: bytes in, lease.Usage out.

Whatever a backend sends may stand here, cut anywhere; nothing of it is trusted, and nothing raises.
"""

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from olladist.gateway.edge.figures import Counts, Metrics, event, metrics
from olladist.gateway.lease import NO_USAGE, Usage
from olladist.ollama.routes import EVENT_STREAM, Dialect, Route

# A final object is 400 bytes and a `context` array before it, of which only the end is needed; the last event of /v1/responses
# repeats the whole answer and has its counts behind it.
TAIL_BYTES_MAX: Final = 64 * 2**10
# English text in the vocabularies of today's models; 3 for code, 2 for Chinese.
BYTES_PER_TOKEN: Final = 4

_NANOSECONDS: Final = 1e9
# A count beyond it is none, and would not fit into every counter on its way.
_COUNT_MAX: Final = 2**53
_EMBEDS: Final = frozenset({"embed", "embeddings", "v1/embeddings"})
# What goes in or comes out is no text.
_NOT_TEXT: Final = frozenset({"v1/audio/transcriptions", "v1/images/generations", "v1/images/edits"})

# The framing between two chunks of a body: JSON has no raw CR, so it can be nothing else.
_CHUNK_FRAMING: Final = re.compile(rb"\r\n[0-9A-Fa-f]{1,15}(?:;[^\r\n]*)?\r\n")
_METRIC: Final = re.compile(
    rb'"(load_duration|prompt_eval_count|prompt_eval_duration|eval_count|eval_duration)"\s*:\s*(\d{1,18})(?=[,}\s])'
)
_COUNT: Final = re.compile(
    rb'"(prompt_tokens|completion_tokens|input_tokens|output_tokens)"\s*:\s*(\d{1,18})(?=[,}\s])'
)
_LAST_USAGE: Final = re.compile(rb'.*"usage"\s*:\s*(\{.*)', re.DOTALL)


def usage_of(route: Route, pieces: Iterable[bytes], received: int, asked: int, *, chunked: bool) -> Usage:
    """The usage of an answer of status 200 that has `received` bytes, of which `pieces` are the last, to `asked` bytes.

    An answer that says nothing of it (OpenAI's streams do only where `include_usage` was asked for) or that was cut is estimated.
    """
    tail = b"".join(pieces)
    if len(tail) > TAIL_BYTES_MAX:
        tail = tail[-TAIL_BYTES_MAX:]
    if chunked:
        tail = _CHUNK_FRAMING.sub(b"", b"\r\n" + tail)  # the first chunk has nothing before it
    found = _of_ollama(tail) if route.dialect is Dialect.OLLAMA else _of_others(tail)
    return found or _estimated(route, tail, received, asked)


def _of_ollama(tail: bytes) -> Usage | None:
    """From the last line, which is the whole of an answer that was not streamed; in part, where only its end is there."""
    last = tail.rstrip()
    if (at := last.rfind(b"\n")) >= 0:
        last = last[at + 1 :]
    try:
        said = metrics.decode(last)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = Metrics(**{name.decode(): int(count) for name, count in _METRIC.findall(last)})
    prompt, output, load = said.prompt_eval_count, said.eval_count, said.load_duration
    prompt_time, output_time = said.prompt_eval_duration, said.eval_duration
    if load < 0 and prompt < 0 and output < 0 and prompt_time < 0 and output_time < 0:
        # A model that was only loaded or unloaded has nothing to count; an answer that was cut has no "done".
        return NO_USAGE if b'"done":true' in last else None
    return Usage(_count(prompt), _count(output), _seconds(load), _seconds(prompt_time), _seconds(output_time))


def _of_others(tail: bytes) -> Usage | None:
    """From the last event, or the body, that has a `usage` of more than zeros (Ollama puts such into every chunk of completions)."""
    for line in reversed(tail.split(b"\n")):
        if b'"usage"' in line:
            counts = _counts(line.removeprefix(b"data:"))
            if counts is not None and (found := _of_counts(counts)) is not None:
                return found
    return None


def _counts(text: bytes) -> Counts | None:
    try:
        found = event.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        last = _LAST_USAGE.match(text)
        return Counts(**{name.decode(): int(count) for name, count in _COUNT.findall(last[1])}) if last else None
    return found.usage or (found.response.usage if found.response is not None else None)


def _of_counts(counts: Counts) -> Usage | None:
    prompt = _count(max(counts.prompt_tokens, counts.input_tokens))
    output = _count(max(counts.completion_tokens, counts.output_tokens))
    return Usage(prompt_tokens=prompt, output_tokens=output) if prompt > 0 or output > 0 else None


def _estimated(route: Route, tail: bytes, received: int, asked: int) -> Usage:
    """Each event or line of a stream is a token in Ollama: as many as there are in the tail, times as much as has come.

    What does not stream is counted by its bytes, and the request too.
    """
    if route.name in _NOT_TEXT:
        return NO_USAGE
    prompt = asked // BYTES_PER_TOKEN
    if route.name in _EMBEDS:
        return Usage(prompt_tokens=prompt, output_tokens=0, estimated=True)
    events = tail.count(b"\ndata:") if route.stream_type == EVENT_STREAM else tail.count(b"\n")
    output = received * events // len(tail) if events else received // BYTES_PER_TOKEN
    return Usage(prompt_tokens=prompt, output_tokens=output, estimated=True)


def _count(number: int) -> int:
    return number if 0 <= number < _COUNT_MAX else -1


def _seconds(nanoseconds: int) -> float:
    return nanoseconds / _NANOSECONDS if 0 <= nanoseconds < _COUNT_MAX else -1.0
