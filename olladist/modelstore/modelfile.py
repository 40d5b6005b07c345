"""Reads a Modelfile as Ollama 0.17.4 reads it (parser/parser.go), so that a sync makes what `ollama create` would.

Surprises that are kept: the command is case-blind; a value is trimmed; a quoted one goes on over lines until a line
ends with the closing quotes; characters that do not print are dropped; a single quote means nothing. One mercy: more
than one blank after PARAMETER or MESSAGE, of which Ollama makes a parameter without a name, is read as one.
"""

import codecs
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

# A Modelfile is text written by people; licences are its longest part, at tens of kB. 4 MiB is Ollama's own bound
# for a manifest fetched from a registry, and far beyond any licence.
MAX_BYTES = 4 << 20

COMMANDS = (
    "from", "license", "template", "system", "adapter", "renderer", "parser", "parameter", "message", "requires",
)  # fmt: skip
ROLES = ("system", "user", "assistant")
_INTEGERS = (
    "num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "num_keep", "seed", "num_predict", "top_k",
    "repeat_last_n",
)  # fmt: skip
_FLOATS = (
    "top_p", "min_p", "typical_p", "temperature", "repeat_penalty", "presence_penalty", "frequency_penalty",
)  # fmt: skip
# Ollama prints a warning for these and goes on without them.
_DEPRECATED = (
    "penalize_newline", "low_vram", "f16_kv", "logits_all", "vocab_only", "use_mlock", "mirostat", "mirostat_tau",
    "mirostat_eta",
)  # fmt: skip
# strconv.ParseBool
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")

_COMMAND = re.compile(r"([A-Za-z]+)[ \t]")
_WORD = re.compile(r"[ \t]*([A-Za-z0-9_]+)[ \t]")
# Up to the first end of a line where the quotes are closed; three quotes are looked for before one.
_VALUE = re.compile(r'[ \t]*+("""(?s:.*?)"""|(?!""")"(?s:.*?)"|(?!")[^\r\n]*)[ \t]*(?=[\r\n]|\Z)')
_SKIPPED = re.compile(r"[ \t\r\n]+|#[^\r\n]*")
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_SEMVER = re.compile(r"v?(0|[1-9]\d*)(\.(0|[1-9]\d*)(\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?)?)?")


class BadModelfile(ValueError):
    """Ollama would refuse it; `line` counts from 1."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


@dataclass(frozen=True, slots=True)
class Command:
    """`name` in lower case; a parameter is a command of its own name, a message's value begins with its role."""

    name: str
    value: str
    line: int
    role: str = ""
    is_parameter: bool = False


@dataclass(frozen=True, slots=True)
class Modelfile:
    """`sources` and `adapters` are what FROM and ADAPTER name, in order; `request` is the rest of /api/create's body."""

    sources: tuple[str, ...]
    adapters: tuple[str, ...]
    request: dict[str, Any] = field(default_factory=dict)


def parse_modelfile(raw: bytes) -> Modelfile:
    """BadModelfile for what Ollama refuses as well."""
    if len(raw) > MAX_BYTES:
        raise BadModelfile(1, f"larger than {MAX_BYTES} bytes: not a Modelfile")
    commands = list(_commands(_decode(raw)))
    sources = tuple(c.value for c in commands if c.name == "from" and not c.is_parameter)
    if not sources:
        raise BadModelfile(1, "no FROM line")
    adapters = tuple(c.value for c in commands if c.name == "adapter" and not c.is_parameter)
    return Modelfile(sources, adapters, _request(commands))


def _decode(raw: bytes) -> str:
    # As golang.org/x/text's BOMOverride: a byte order mark decides, otherwise UTF-8; what does not decode is U+FFFD.
    utf16 = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = raw.decode("utf-16" if utf16 else "utf-8-sig", errors="replace")
    return "".join(c for c in text if c.isprintable() or c in "\t\r\n")


def _commands(text: str) -> Iterator[Command]:
    at, line, counted = 0, 1, 0
    while at < len(text):
        if found := _SKIPPED.match(text, at):
            at = found.end()
            continue
        line, counted = line + text.count("\n", counted, at), at
        found = _COMMAND.match(text, at)
        if not found or found[1].lower() not in COMMANDS:
            raise BadModelfile(line, f"a command must be one of {', '.join(c.upper() for c in COMMANDS)}")
        name, at = found[1].lower(), found.end()
        role, is_parameter = "", name == "parameter"
        if name in ("parameter", "message"):
            word = _WORD.match(text, at)
            if not word:
                raise BadModelfile(line, f"{name.upper()} needs a name and a value on its line")
            at = word.end()
            name, role = (word[1], "") if is_parameter else (name, word[1])
            if role and role not in ROLES:
                raise BadModelfile(line, 'the role of a message must be "system", "user" or "assistant"')
        value = _VALUE.match(text, at)
        if not value:
            raise BadModelfile(line, "the quotes that are opened here are never closed")
        at = value.end()
        yield Command(name, _unquoted(value[1].rstrip()), line, role, is_parameter)


def _unquoted(value: str) -> str:
    mark = '"""' if value.startswith('"""') else '"' if value.startswith('"') else ""
    return value[len(mark) : len(value) - len(mark)]


def _request(commands: list[Command]) -> dict[str, Any]:
    request: dict[str, Any] = {}
    licences = [c.value for c in commands if c.name == "license" and not c.is_parameter]
    messages = [{"role": c.role, "content": c.value} for c in commands if c.role]
    parameters: dict[str, Any] = {}
    for command in commands:
        if command.is_parameter:
            _add_parameter(parameters, command)
        elif command.name in ("template", "system", "renderer", "parser"):
            request[command.name] = command.value
        elif command.name == "requires":
            if not _SEMVER.fullmatch(command.value):
                raise BadModelfile(command.line, "REQUIRES must be a version such as 0.14.0")
            request["requires"] = command.value.removeprefix("v")
    request |= {"license": licences, "messages": messages, "parameters": parameters}
    return {key: value for key, value in request.items() if value}  # Go's omitempty


def _add_parameter(parameters: dict[str, Any], command: Command) -> None:
    name, text = command.name, command.value
    if name in _DEPRECATED:
        return
    if name == "stop":
        parameters.setdefault(name, []).append(text)
    elif name in _INTEGERS:
        if not _INTEGER.fullmatch(text) or not -(2**63) <= int(text) < 2**63:
            raise BadModelfile(command.line, f"{name} needs a whole number, not {text!r}")
        parameters[name] = int(text)
    elif name in _FLOATS:
        if not _FLOAT.fullmatch(text):
            raise BadModelfile(command.line, f"{name} needs a number, not {text!r}")
        parameters[name] = _float32(text, command)
    elif name == "use_mmap":
        if text not in _TRUE + _FALSE:
            raise BadModelfile(command.line, f"{name} needs true or false, not {text!r}")
        parameters[name] = text in _TRUE
    else:
        raise BadModelfile(command.line, f"unknown parameter {name!r}")


def _float32(text: str, command: Command) -> float:
    """The shortest decimal that means the same as a 32-bit float: what `ollama create` sends for it."""
    if (packed := _packed(float(text))) is None:
        raise BadModelfile(command.line, f"{command.name} is too large: {text}")
    exact: float = struct.unpack("<f", packed)[0]
    short = (float(f"{exact:.{digits}g}") for digits in range(1, 10))
    return next(value for value in short if _packed(value) == packed)


def _packed(value: float) -> bytes | None:
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return None
