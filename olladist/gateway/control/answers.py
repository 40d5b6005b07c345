"""What an Ollama says about itself, read from bytes that nobody has checked: its version, its models, what is in memory."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from olladist.ollama.names import InvalidName, parse_name

# "0.33.0-rc2" is 10 characters; anything long is no version, and it goes into a line of status.
VERSION_CHARS_MAX = 64
# The largest public collection of one host seen is below 1 000; a row is about 500 bytes, so 10 000 rows are 5 MB.
ROWS_MAX = 10_000

VERSION_BYTES_MAX = 64 * 2**10
LISTING_BYTES_MAX = 16 * 2**20

# Bare hex today; `ollama ps` cuts the first 12 characters (cmd/cmd.go), so a shorter one would crash it.
_DIGEST = re.compile(r"[0-9A-Za-z:-]{12,140}")


class BadAnswer(ValueError):
    """Not what an Ollama answers; the message completes "its answer ..."."""


@dataclass(frozen=True, slots=True)
class Row:
    """One model in /api/tags or /api/ps; `fields` is the row as it came, with every field this version of Ollama has.

    `time` is modified_at or expires_at in seconds since 1970, UTC.
    """

    key: str
    digest: str
    time: float
    fields: Mapping[str, Any]


def read_version(raw: bytes) -> str:
    version = _document(raw).get("version")
    if not isinstance(version, str) or not version or len(version) > VERSION_CHARS_MAX or not version.isprintable():
        raise BadAnswer("has no version in it")
    return version


def read_tags(raw: bytes) -> tuple[Row, ...]:
    """The rows of /api/tags; rows with a name that Ollama itself would not take are left out."""
    return _rows(raw, "modified_at", whole=("size",))


def read_loaded(raw: bytes) -> tuple[Row, ...]:
    """The rows of /api/ps. An `expires_at` in the past is no error: a runner that is busy keeps the old one (server/sched.go)."""
    return _rows(raw, "expires_at", whole=("size", "size_vram", "context_length"))


def read_date(header: str) -> float | None:
    """The time of a Date header in seconds since 1970; None for what is none."""
    try:
        return parsedate_to_datetime(header).timestamp()
    except (ValueError, OverflowError):
        return None


def _document(raw: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadAnswer(f"is not JSON ({error})") from error
    if not isinstance(document, dict):
        raise BadAnswer("is not a JSON object")
    return document


def _rows(raw: bytes, time_field: str, whole: tuple[str, ...]) -> tuple[Row, ...]:
    models = _document(raw).get("models")
    if models is None:  # a nil slice of Go
        return ()
    if not isinstance(models, list):
        raise BadAnswer("has no list of models in it")
    if len(models) > ROWS_MAX:
        raise BadAnswer(f"lists {len(models)} models; at most {ROWS_MAX} are read")
    rows: dict[str, Row] = {}
    for fields in models:
        row = _row(fields, time_field, whole)
        if row:
            rows.setdefault(row.key, row)
    return tuple(rows.values())


def _row(fields: Any, time_field: str, whole: tuple[str, ...]) -> Row | None:
    if not isinstance(fields, dict):
        raise BadAnswer("lists a model that is not an object")
    name, digest, time = fields.get("name"), fields.get("digest"), fields.get(time_field)
    if not isinstance(name, str) or not isinstance(digest, str) or not isinstance(time, str):
        raise BadAnswer(f"lists a model without a name, a digest or {time_field}")
    for field in whole:
        # context_length came with 0.11; a row without it is an older Ollama's.
        number = fields.get(field, 0)
        if not isinstance(number, int) or number < 0:
            raise BadAnswer(f"lists a model whose {field} is no size")
    if not _DIGEST.fullmatch(digest):
        raise BadAnswer("lists a model whose digest is none")
    try:
        key = parse_name(name).key
    except InvalidName:
        return None
    return Row(key, digest, _seconds(time), fields)


def _seconds(text: str) -> float:
    try:
        # Nine digits of a second, as Go writes them, are cut to six.
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadAnswer("lists a model with a time that is none") from error
    if moment.tzinfo is None:
        raise BadAnswer("lists a model with a time without its zone")
    return moment.timestamp()
