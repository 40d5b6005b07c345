"""What of an answer is compared: all of it, with times, durations and random names replaced by what they are."""

import json
import re
from dataclasses import dataclass
from typing import Any

from tests.lab.conformance.wire import Raw

# How the bytes travel, which `framing` judges, what is a matter of the one connection (RFC 9110 §7.6.1), and the clock.
_TRAVEL = frozenset({"date", "content-length", "transfer-encoding", "connection"})
# What differs from one answer to the next, by key.
VARIES = re.compile(
    r'"(?:created_at|modified_at|expires_at|completed_at)":(?:"[^"]+"|\d+)|"\w+_duration":\d+|"created":\d+'
    r'|"(?:id|item_id|call_id)":"(?:chatcmpl-|cmpl-|resp_|msg_|call_|fc_|rs_)\w+"|"request_id":"req_\w+"'
)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: Any
    framing: str


def readable(raw: Raw, names: dict[str, str], varies: re.Pattern[str] = VARIES) -> Answer:
    """`names` are texts of one server, such as the path of its store, and what stands for them in every server's answers.

    `varies` finds members, `"key":value`, whose value is not compared.
    """
    content_type = raw.header("content-type")
    headers = {key: _named(value, names) for key, value in raw.headers if key not in _TRAVEL}
    stream = "ndjson" in content_type or "event-stream" in content_type
    if stream:
        body: Any = [_document(chunk, names, varies) for chunk in raw.chunks]
    elif "json" in content_type:
        body = _document(raw.body, names, varies)
    else:
        body = _named(raw.body.decode("utf-8", "replace"), names)
    # One document may come with its length or in chunks: Go's server chooses by the size, and by who has written it.
    framing = raw.framing if stream or raw.framing == "cut" else "any"
    return Answer(raw.status, headers, body, framing)


def _named(text: str, names: dict[str, str]) -> str:
    for own, name in names.items():
        text = text.replace(own, name)
    return text


def _document(raw: bytes, names: dict[str, str], varies: re.Pattern[str]) -> Any:
    """One JSON document, one line of a stream, or the lines of an event."""
    text = _named(raw.decode("utf-8", "replace"), names)
    text = varies.sub(lambda found: f'{found[0].partition(":")[0]}:"VARIES"', text)
    try:
        return _ordered(json.loads(text))
    except ValueError:
        return [_line(line) for line in text.splitlines()]


def _line(line: str) -> Any:
    if line.startswith("data: {"):
        return ["data", json.loads(line.removeprefix("data: "))]
    return line


def _ordered(document: Any) -> Any:
    """Lists and lines that Ollama makes out of Go maps, whose order is another each time, in one order."""
    if not isinstance(document, dict):
        return document
    for key, name in (("models", "name"), ("data", "id")):
        rows = document.get(key)
        if isinstance(rows, list) and rows and isinstance(rows[0], dict) and name in rows[0]:
            document[key] = sorted(rows, key=lambda row: str(row[name]))
    for key in ("parameters", "modelfile"):
        if isinstance(document.get(key), str):
            document[key] = sorted(document[key].splitlines())
    return document


def unlike(want: Answer, got: Answer) -> str:
    """Only what differs, one line for each part; "" where nothing does."""
    lines = []
    for part in ("status", "framing", "headers", "body"):
        where, wanted, given = part, getattr(want, part), getattr(got, part)
        if wanted == given:
            continue
        if isinstance(wanted, dict) and isinstance(given, dict):
            keys = [key for key in {**wanted, **given} if wanted.get(key) != given.get(key)]
            wanted, given = ({key: side.get(key) for key in keys} for side in (wanted, given))
        elif isinstance(wanted, list) and isinstance(given, list):
            at = next((at for at, (a, b) in enumerate(zip(wanted, given, strict=False)) if a != b), None)
            at = min(len(wanted), len(given)) if at is None else at
            where = f"{part}[{at}] of {len(wanted)} and {len(given)}"
            wanted, given = wanted[at : at + 1], given[at : at + 1]
        lines.append(f"    {where}: {wanted!r:.600}\n      gateway: {given!r:.600}")
    return "\n".join(lines)
