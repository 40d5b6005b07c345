"""What a gateway must know of a request body: the model, whether the answer streams, whether it only loads or unloads.

Ollama judges the body; here it is read just far enough to choose a host, and as Go would read it. What Ollama would
refuse may pass, for the bytes go on untouched and Ollama refuses them itself.
"""

import re
from collections.abc import Iterable, Mapping
from hashlib import blake2b

import msgspec

from olladist.ollama import gojson
from olladist.ollama.members import USUAL_KEYS, Usual, usual
from olladist.ollama.routes import Dialect, ModelIn, Route

_raw_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_string = msgspec.json.Decoder(str)

# A Raw equals only another Raw.
_NULL, _TRUE, _FALSE = (msgspec.Raw(text) for text in (b"null", b"true", b"false"))
_EMPTY_LIST = re.compile(rb"\[[ \t\r\n]*\]")
# How much of the messages is looked through for the first of a user: system prompts are a few KiB.
_BEGINNING = 64 * 2**10
# Go's time.ParseDuration of nothing but zeros.
_ZERO_DURATION = re.compile(r"[+-]?(?:0|(?:(?:0+\.?0*|\.0+)(?:ns|us|µs|μs|ms|s|m|h))+)")
# api.Duration makes nanoseconds of a number of seconds and cuts the rest off.
_NANOSECOND = 1e-9


class ModelRequest(msgspec.Struct, frozen=True):
    """`load` and `unload`: there is nothing to answer, the model is just to be loaded, or to leave memory at once.

    `near` is the same number for all turns of a conversation, 0 where that cannot be told; `begins`: this is the first of them.
    `options` are those with which a runner is started, "" for none: with others Ollama loads the model anew. `sampling`: it may say a
    temperature or a seed, so that a closer look shows whether anything is left to chance.
    """

    model: str
    stream: bool
    load: bool = False
    unload: bool = False
    near: int = 0
    begins: bool = False
    options: str = ""
    sampling: bool = False


class BadBody(ValueError):
    """Ollama would answer `status` and `text` before it looks for a model."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def read_body(body: bytes, route: Route) -> ModelRequest:
    """What `body` (whole, not compressed) asks of a route that names its model there; BadBody where Ollama refuses it."""
    if route.model_in is ModelIn.FORM:
        return _of_form(body, route.model_keys[0])
    try:
        said = usual.decode(body)
        content = getattr(said, route.content_key) if route.content_key else None
        if content != _NULL:
            return _of_usual(said, content, route)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    return _of_any(body, route)


def _of_usual(said: Usual, content: msgspec.Raw | None, route: Route) -> ModelRequest:
    """Most bodies: none but the keys that all clients send, and what counts of them of its own type."""
    model = ""
    for key in route.model_keys:
        model = model or getattr(said, key)
    near, begins = conversation(bytes(said.messages)) if said.messages else _NO_CONVERSATION
    raw = bytes(said.options) if said.options else b""
    stream = route.streams if said.stream is msgspec.UNSET or route.streams is None else said.stream
    if content is None or (content and not _is_empty(content)):
        load = unload = False
    else:
        unload = _is_zero_duration(bytes(said.keep_alive or _NULL))
        load = not unload
    sampling = bool(said.temperature or said.seed or (raw and _samples(raw)))
    return ModelRequest(model, bool(stream), load, unload, near, begins, runner_options(raw) if raw else "", sampling)


def _of_any(body: bytes, route: Route) -> ModelRequest:
    try:
        members = _raw_members.decode(body)
        if members.keys() <= USUAL_KEYS or not _oddly_spelled(members, _keys_of(route)):
            model = _first_string(members, route.model_keys)
            near, begins = conversation(bytes(members.get("messages", b"")))
            options = runner_options(bytes(members["options"])) if "options" in members else ""
            load, unload = _purpose(members, route)
            return ModelRequest(model, _streams(members, route), load, unload, near, begins, options, _samples(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, _NeedsGo):
        pass
    return _as_go_reads(body, route)


def _samples(text: bytes) -> bool:
    # `in` would first ask whether what is looked for is a number, which takes longer than to look for it.
    return text.find(b'"temperature"') >= 0 or text.find(b'"seed"') >= 0


# api.Runner of 0.17.4, as server/sched.go needsReload compares them.
RUNNER_OPTIONS = ("main_gpu", "num_batch", "num_ctx", "num_gpu", "num_thread", "use_mmap")


def runner_options(raw: bytes) -> str:
    """Of a request's `options`, those that make another runner, in one spelling; what is no object has none."""
    try:
        options = _raw_members.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return ",".join(f"{name}={bytes(options[name]).decode()}" for name in RUNNER_OPTIONS if name in options)


def read_runner_options(spelled: str) -> dict[str, object]:
    """The `options` that `runner_options` has spelled so; ValueError for what it can not have spelled."""
    pairs = (each.partition("=") for each in spelled.split(",") if each)
    return {name: msgspec.json.decode(value) for name, _, value in pairs}


_NO_CONVERSATION = 0, False
# What stands behind the last message.
_NO_MORE = re.compile(rb"[ \t\r\n]*\][ \t\r\n]*")


def conversation(messages: bytes) -> tuple[int, bool]:
    """A number for the beginning of `messages`, up to the first that is a user's: later turns send the same again; and whether that is all.

    An Ollama that has answered one turn has its prompt in a cache, which is worth going back for. What looks like one conversation and
    is two costs nothing but that, nor does a first turn that is not seen to be one.
    """
    user = messages.find(b'"user"', 0, _BEGINNING)
    if user < 0:
        return _NO_CONVERSATION
    end = messages.find(b"}", user, user + _BEGINNING)
    beginning = messages[: end if end >= 0 else user + _BEGINNING]
    begins = end >= 0 and _NO_MORE.fullmatch(messages, end + 1) is not None
    return int.from_bytes(blake2b(beginning, digest_size=7).digest(), "little"), begins


class _NeedsGo(Exception):
    """The fast path has met something that only Go's rules decide."""


def _keys_of(route: Route) -> tuple[str, ...]:
    return (*route.model_keys, "stream", "keep_alive", route.content_key)


def _oddly_spelled(keys: Iterable[str], wanted: tuple[str, ...]) -> bool:
    return any(key not in wanted and gojson.fold(key) in wanted for key in keys)


def _first_string(members: Mapping[str, msgspec.Raw], keys: tuple[str, ...]) -> str:
    for key in keys:
        raw = members.get(key)
        if raw is not None:
            if raw == _NULL:
                raise _NeedsGo  # it may follow a value that counts
            if text := _string.decode(raw):
                return text
    return ""


def _streams(members: Mapping[str, msgspec.Raw], route: Route) -> bool:
    """What is neither true nor false is refused by Ollama itself."""
    if route.streams is None:
        return False
    raw = members.get("stream")
    if raw is None:
        return route.streams
    if raw == _NULL:
        raise _NeedsGo
    return raw == _TRUE or (raw != _FALSE and route.streams)


def _purpose(members: Mapping[str, msgspec.Raw], route: Route) -> tuple[bool, bool]:
    """(load, unload) after server/routes.go: nothing to answer, and then keep_alive 0 unloads."""
    if not route.content_key:
        return False, False
    content = members.get(route.content_key)
    if content is not None:
        if content == _NULL:
            raise _NeedsGo
        if not _is_empty(content):
            return False, False
    unload = _is_zero_duration(bytes(members.get("keep_alive", _NULL)))
    return not unload, unload


def _is_empty(content: msgspec.Raw) -> bool:
    text = bytes(content)
    return text == b'""' or (text.startswith(b"[") and _EMPTY_LIST.fullmatch(text) is not None)


def _is_zero_duration(raw: bytes) -> bool:
    kind = gojson.kind(raw)
    if kind == "string":
        return _ZERO_DURATION.fullmatch(gojson.string(raw)) is not None
    return kind == "number" and 0 <= float(raw) < _NANOSECOND


def _as_go_reads(body: bytes, route: Route) -> ModelRequest:
    """The slow way, which is right for every body."""
    try:
        members = gojson.members(body)
    except gojson.SyntaxProblem as problem:
        if str(problem) == "EOF" and route.dialect is Dialect.OLLAMA:
            raise BadBody("missing request body") from None
        raise BadBody(str(problem)) from None
    if isinstance(members, str):
        if members != "null":
            raise BadBody(f"json: cannot unmarshal {members} into Go value of type {route.request_type}")
        members = []
    wanted = _keys_of(route)
    last: dict[str, msgspec.Raw] = {}
    wrong: BadBody | None = None
    for key, value in members:
        folded = gojson.fold(key)
        if folded not in wanted:
            continue
        kind = gojson.kind(value)
        if folded in route.model_keys and kind not in {"string", "null"}:
            wrong = wrong or BadBody(_wrong_type(kind, route, folded))
        elif kind != "null":
            last[folded] = msgspec.Raw(value)
        elif folded not in _VALUE_KEYS[route.dialect]:
            last.pop(folded, None)  # null empties a pointer, and leaves a plain value as it was
    if wrong is not None:
        raise wrong
    model = next((text for key in route.model_keys if key in last and (text := gojson.string(bytes(last[key])))), "")
    load, unload = _purpose(last, route)
    return ModelRequest(model, _streams(last, route), load, unload, sampling=_samples(body))


# Fields that are no pointers and no slices in Go's structs.
_VALUE_KEYS = {
    Dialect.OLLAMA: frozenset({"model", "name", "source", "prompt"}),
    Dialect.OPENAI: frozenset({"model", "name", "prompt", "stream"}),
    Dialect.ANTHROPIC: frozenset({"model", "stream"}),
}


def _wrong_type(kind: str, route: Route, key: str) -> str:
    struct = route.request_type.partition(".")[2]
    return f"json: cannot unmarshal {kind} into Go struct field {struct}.{key} of type string"


# RFC 2046 §5.1.1: a boundary has at most 70 characters. mime/multipart: at most 1000 parts; heads have some hundred bytes.
_BOUNDARY_LINE_MAX = 2 + 70 + 2
_PARTS_MAX = 1000
_PART_HEAD_MAX = 8 * 2**10


def _of_form(body: bytes, key: str) -> ModelRequest:
    """TranscriptionMiddleware's words for a form that is none, and for one without a model (0.18 and later; 0.17.4 has no such route)."""
    first, newline, _ = body[:_BOUNDARY_LINE_MAX].partition(b"\r\n")
    if not (newline and first.startswith(b"--")):
        raise BadBody("failed to parse multipart form: multipart: NextPart: EOF")
    model = _form_field(body, first, key)
    if not model:
        raise BadBody("model is required")
    return ModelRequest(model, stream=False)


def _form_field(body: bytes, boundary: bytes, name: str) -> str:
    """A field of multipart/form-data, found by the `boundary` that the body begins with, dashes included; "" where it is not there."""
    at = len(boundary) + 2
    for _ in range(_PARTS_MAX):
        content = body.find(b"\r\n\r\n", at, at + _PART_HEAD_MAX) + 4
        if content < 4:
            break
        end = body.find(b"\r\n" + boundary, content)
        disposition = _FIELD_NAME.search(body, at, content)
        if disposition and disposition[1] == name.encode():
            return body[content : end if end >= 0 else None].decode("utf-8", "replace")
        at = end + 2 + len(boundary) + 2
        if end < 0 or body[at - 2 : at] != b"\r\n":
            break
    return ""


_FIELD_NAME = re.compile(rb'(?im)^content-disposition:[^\r\n]*;[ \t]*name="?([^";\r\n]*)"?')
