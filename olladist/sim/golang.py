"""Structs, times and numbers as Go's libraries read and write them (encoding/json, time), on top of olladist.ollama.gojson."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from olladist.ollama import gojson
from olladist.units import parse_go_duration

Document = dict[str, Any]

MAX_DURATION = (2**63 - 1) / 1e9  # seconds: time.Duration(math.MaxInt64), what Ollama takes for "for ever"


class Malformed(ValueError):
    """The text is the error Go's decoder gives; `empty` for a body without any value (io.EOF)."""

    def __init__(self, text: str, *, empty: bool = False) -> None:
        super().__init__(text)
        self.empty = empty


def in_order(value: object) -> Any:
    """Keys in order at every depth, as Go writes what is a map in Ollama's source."""
    if isinstance(value, dict):
        return {key: in_order(value[key]) for key in sorted(value)}
    return [in_order(item) for item in value] if isinstance(value, list) else value


def human_number(count: int) -> str:
    """format.HumanNumber: "121K", "1.24B"."""
    for unit, scale, places in (("B", 10**9, 1), ("M", 10**6, 2), ("K", 10**3, 0)):
        if count >= scale:
            return f"{count / scale:.{0 if count % scale == 0 else places}f}{unit}"
    return str(count)


def utc(nanoseconds: int) -> str:
    """time.RFC3339Nano of a time in UTC."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + _fraction(rest) + "Z"


def local(nanoseconds: int) -> str:
    """time.RFC3339Nano of a time in this machine's zone, as modified_at and expires_at have it."""
    seconds, rest = divmod(nanoseconds, 10**9)
    moment = datetime.fromtimestamp(seconds).astimezone()
    offset = moment.utcoffset() or timedelta()
    zone = "Z" if not offset else moment.strftime("%z")[:3] + ":" + moment.strftime("%z")[3:]
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + _fraction(rest) + zone


def _fraction(nanoseconds: int) -> str:
    return f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""


@dataclass(frozen=True, slots=True)
class Shape:
    """A Go struct to decode into: its name, and the Go type of each field by its JSON name."""

    name: str
    fields: Mapping[str, str]
    package: str = "api"


# Which JSON kinds a Go type takes; a type that is not here takes anything.
_TAKES: Mapping[str, tuple[str, ...]] = {
    "string": ("string",),
    "bool": ("bool",),
    "int": ("number",),
    "float32": ("number",),
    "float64": ("number",),
    "map[string]interface {}": ("object",),
    "map[string]string": ("object",),
    "[]string": ("array",),
    "[]int": ("array",),
    "[]api.Message": ("array",),
    "[]openai.Message": ("array",),
    "[]anthropic.MessageParam": ("array",),
    "api.Tools": ("array",),
    "[]api.Tool": ("array",),
    "[]openai.ResponsesTool": ("array",),
    "[]anthropic.Tool": ("array",),
    "openai.StreamOptions": ("object",),
}
_ELEMENTS: Mapping[str, str] = {
    "[]string": "string",
    "[]int": "int",
    "[]api.Message": "api.Alias",
    "[]openai.Message": "openai.Message",
    "[]anthropic.MessageParam": "anthropic.MessageParam",
}
_STRUCTS = {"api.Alias", "openai.Message", "anthropic.MessageParam"}


def kind_of(value: object) -> str:
    """The word encoding/json uses for a JSON value."""
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def decode(body: bytes, shape: Shape) -> Document:
    """The first JSON value of `body` as the struct `shape`: keys in any case, the last one wins, unknown ones dropped.

    An api.Duration comes out in seconds. Malformed with Go's text for what does not parse or does not fit.
    """
    try:
        members = gojson.members(body)
    except gojson.SyntaxProblem as problem:
        raise Malformed(str(problem), empty=str(problem) == "EOF") from None
    if members == "null":
        return {}
    if isinstance(members, str):
        raise Malformed(f"json: cannot unmarshal {members} into Go value of type {shape.package}.{shape.name}")
    fields = {name.lower(): name for name in shape.fields}
    found: Document = {}
    for key, raw in members:
        name = fields.get(gojson.fold(key))
        item = _value(raw) if name else None
        if name is None or item is None:
            continue
        _check(item, shape.fields[name], f"{shape.name}.{name}")
        found[name] = keep_alive(item) if shape.fields[name] == "api.Duration" else item
    return found


def _value(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode("utf-8", "replace"))
    except RecursionError:
        raise Malformed("exceeded max depth") from None


def _check(item: object, go_type: str, where: str) -> None:
    kind = kind_of(item)
    if kind == "null":
        return
    takes = ("object",) if go_type in _STRUCTS else _TAKES.get(go_type)
    if takes is not None and kind not in takes:
        raise Malformed(f"json: cannot unmarshal {kind} into Go struct field {where} of type {go_type}")
    if go_type == "int" and isinstance(item, float) and not item.is_integer():
        raise Malformed(f"json: cannot unmarshal number {item} into Go struct field {where} of type int")
    if isinstance(item, list) and go_type in _ELEMENTS:
        for element in item:
            _check(element, _ELEMENTS[go_type], where)
    if isinstance(item, dict) and go_type in _STRUCTS:
        for key in ("role",) if go_type != "api.Alias" else ("role", "content"):
            shown = where if go_type == "api.Alias" else f"{go_type.split('.')[1]}.{where.split('.', 1)[1]}"
            _check(item.get(key), "string", f"{shown}.{key}")


def keep_alive(value: object) -> float:
    """Seconds of a keep_alive in a request (api.Duration), infinite for a negative one; Malformed as Go says it."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        go_type = {"bool": "bool", "array": "[]interface {}", "object": "map[string]interface {}"}[kind_of(value)]
        raise Malformed(f"Unsupported type: '{go_type}'")
    seconds = _seconds(value) if isinstance(value, str) else float(value)
    return math.inf if seconds < 0 else seconds


def _seconds(text: str) -> float:
    if text.lstrip("+-") != "0" and text[-1:].isdigit():
        raise Malformed(f"time: missing unit in duration {gojson.quote(text)}")
    try:
        return parse_go_duration(text)
    except ValueError:
        raise Malformed(f"time: invalid duration {gojson.quote(text)}") from None
