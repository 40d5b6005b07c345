"""JSON as Go's encoding/json reads it, and its error texts: the arbiter for bodies that the fast path does not take.

What differs from other decoders: keys match in any case and the last one counts, the data after the first value are
ignored, bytes that are no UTF-8 and lone surrogates become U+FFFD, and nesting may go 10 000 deep. Bytes are looked at
one by one (the text is decoded as Latin-1), as encoding/json/scanner.go does.
"""

import json
import re
from typing import NamedTuple

# encoding/json/scanner.go maxNestingDepth
_DEPTH_MAX = 10_000

# One step is one value or one bracket outside of a run of plain values. A tool-laden chat of 1 MB takes some 20 000;
# 200 000 take about 0.2 s here, and a worker serves nobody else meanwhile.
_STEPS_MAX = 200_000
_TOO_MANY = "the request body has too many values"

_SPACE = re.compile(r"[ \t\r\n]*")
_ESCAPE = r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})'
# What is repeated possessively is atomic: where it could be tried in two ways, CPython before 3.11.5 (Debian 12 has 3.11.2) does not go
# back to where a repetition that failed has begun (gh-106052). Greedy repetition would remember 200 bytes for each of a million values.
_STRING_START = rf'"[^"\\\x00-\x1f]*+(?>{_ESCAPE}[^"\\\x00-\x1f]*+)*+'
_NUMBER = r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?"
_PLAIN = rf'(?:{_STRING_START}"|{_NUMBER}|true|false|null)'
_WS = r"[ \t\r\n]*+"

_string_start = re.compile(_STRING_START)
_string = re.compile(rf'{_STRING_START}"')
_number = re.compile(_NUMBER)
_plain = re.compile(_WS + _PLAIN)
_plain_items = re.compile(rf"(?>{_WS}{_PLAIN}{_WS},)*+")
_plain_members = re.compile(rf'(?>{_WS}{_STRING_START}"{_WS}:{_WS}{_PLAIN}{_WS},)*+')
_surrogate = re.compile("[\ud800-\udfff]")


class SyntaxProblem(ValueError):
    """The message is Go's; it is "EOF" where there is no value at all."""


class Member(NamedTuple):
    """One key of the outermost object with the text of its value."""

    key: str
    value: bytes


def members(body: bytes) -> list[Member] | str:
    """The members of the object that `body` begins with, in their order; for any other value its kind.

    Kinds are Go's: "array", "string", "number", "bool", "null". Raises SyntaxProblem.
    """
    text = body.decode("latin-1")
    at = _skip_space(text, 0)
    if at == len(text):
        raise SyntaxProblem("EOF")
    if text[at] != "{":
        if problem := _number_goes_on(text, _skip_value(text, at)):
            raise problem
        return kind(text[at:].encode("latin-1"))
    at = _skip_space(text, at + 1)
    if text[at : at + 1] == "}":
        return []
    found: list[Member] = []
    for _ in range(_STEPS_MAX):
        key, start = _key(text, at)
        end = _skip_value(text, start)
        found.append(Member(string(key.encode("latin-1")), text[start:end].strip(" \t\r\n").encode("latin-1")))
        at = _skip_space(text, end)
        if text[at : at + 1] == "}":
            return found
        if text[at : at + 1] != ",":
            raise _after_value(text, end, "after object key:value pair")
        at += 1
    raise SyntaxProblem(_TOO_MANY)


def kind(value: bytes) -> str:
    """What Go calls a value that is known to be JSON."""
    first = value[:1]
    return {b"{": "object", b"[": "array", b'"': "string", b"t": "bool", b"f": "bool", b"n": "null"}.get(
        first, "number"
    )


def string(literal: bytes) -> str:
    """The text of a JSON string that is known to be one."""
    text = json.loads(literal.decode("utf-8", "replace"))
    assert isinstance(text, str)  # noqa: S101  what is known to be a string literal
    return _surrogate.sub("\ufffd", text)


def fold(key: str) -> str:
    """Two keys name the same field when this is equal (Unicode simple folding: also the long s and the Kelvin sign)."""
    return key.replace("\u017f", "s").lower()


def quote(text: str) -> str:
    """Go's %q: in double quotes, what cannot be printed escaped."""
    return '"' + "".join(_quoted(char) for char in text) + '"'


_SHORT = dict(zip('"\\\a\b\f\n\r\t\v', ('\\"', r"\\", r"\a", r"\b", r"\f", r"\n", r"\r", r"\t", r"\v"), strict=True))


def _quoted(char: str) -> str:
    code = ord(char)
    if char in _SHORT:
        return _SHORT[char]
    if char.isprintable():
        return char
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _key(text: str, at: int) -> tuple[str, int]:
    """The key that must begin at or after `at`, as it is written, and where its value may begin."""
    at = _skip_space(text, at)
    key = _string.match(text, at)
    if key is None:
        if text[at : at + 1] == '"':
            raise _string_problem(text, at)
        raise _unexpected(text, at, "looking for beginning of object key string")
    colon = _skip_space(text, key.end())
    if text[colon : colon + 1] != ":":
        raise _unexpected(text, colon, "after object key")
    return key[0], colon + 1


def _skip_value(text: str, at: int) -> int:
    """The end of the value that begins at or after `at`."""
    closers: list[str] = []
    for _ in range(_STEPS_MAX):
        plain = _plain.match(text, at)
        if plain is not None:
            at = _close(text, plain.end(), closers)
        else:
            at = _skip_space(text, at)
            bracket = text[at : at + 1]
            if bracket not in {"{", "["}:
                raise _value_problem(text, at)
            closers.append("}" if bracket == "{" else "]")
            if len(closers) > _DEPTH_MAX:
                raise SyntaxProblem(f"invalid character '{bracket}' exceeded max depth")
            after = _skip_space(text, at + 1)
            if text[after : after + 1] == closers[-1]:
                closers.pop()
                at = _close(text, after + 1, closers)
            else:
                at = _next_item(text, at + 1, closers[-1])
        if not closers:
            return at
    raise SyntaxProblem(_TOO_MANY)


def _next_item(text: str, at: int, closer: str) -> int:
    """Where the next value begins, after `[`, `{` or a comma: past runs of plain values, and past a key."""
    run = (_plain_members if closer == "}" else _plain_items).match(text, at)
    at = run.end() if run else at
    return _key(text, at)[1] if closer == "}" else at


def _close(text: str, at: int, closers: list[str]) -> int:
    """After a value: past all brackets that close here, up to where the next value begins, or to the outermost's end."""
    while closers:
        ended = at
        at = _skip_space(text, at)
        char = text[at : at + 1]
        if char == ",":
            return _next_item(text, at + 1, closers[-1])
        if char != closers[-1]:
            where = "after object key:value pair" if closers[-1] == "}" else "after array element"
            raise _after_value(text, ended, where)
        closers.pop()
        at += 1
    return at


def _after_value(text: str, end: int, where: str) -> SyntaxProblem:
    return _number_goes_on(text, end) or _unexpected(text, _skip_space(text, end), where)


def _number_goes_on(text: str, end: int) -> SyntaxProblem | None:
    """What is wrong in a number of which a good part ends at `end`, when it goes on as numbers cannot ("1.", "2e+")."""
    start = end
    while start and text[start - 1] in "0123456789.eE+-":
        start -= 1
    number = _number.match(text, start)
    if number is None or number.end() != end or "e" in number[0].lower():
        return None
    char = text[end : end + 1]
    if char == "." and "." not in number[0]:
        return _unexpected(text, end + 1, "after decimal point in numeric literal")
    if char in {"e", "E"}:
        signed = text[end + 1 : end + 2] in {"+", "-"}
        return _unexpected(text, end + (2 if signed else 1), "in exponent of numeric literal")
    return None


def _value_problem(text: str, at: int) -> SyntaxProblem:
    char = text[at : at + 1]
    if char == '"':
        return _string_problem(text, at)
    if char == "-":
        return _unexpected(text, at + 1, "in numeric literal")
    for literal in ("true", "false", "null"):
        if char == literal[0]:
            same = 1
            while text[at + same : at + same + 1] == literal[same]:
                same += 1
            return _unexpected(text, at + same, f"in literal {literal} (expecting {_char(literal[same])})")
    return _unexpected(text, at, "looking for beginning of value")


def _string_problem(text: str, at: int) -> SyntaxProblem:
    """Why no string begins at `at`, where a quote stands."""
    start = _string_start.match(text, at)
    end = start.end() if start else at + 1
    if text[end : end + 1] != "\\":
        return _unexpected(text, end, "in string literal")
    if text[end + 1 : end + 2] != "u":
        return _unexpected(text, end + 1, "in string escape code")
    end += 2
    while text[end : end + 1] and text[end] in "0123456789abcdefABCDEF":
        end += 1
    return _unexpected(text, end, "in \\u hexadecimal character escape")


def _unexpected(text: str, at: int, where: str) -> SyntaxProblem:
    if at >= len(text):
        return SyntaxProblem("unexpected EOF")
    return SyntaxProblem(f"invalid character {_char(text[at])} {where}")


def _char(char: str) -> str:
    """encoding/json/scanner.go quoteChar: %q in single quotes, but for the two kinds of quotes."""
    if char == "'":
        return "'\\''"
    if char == '"':
        return "'\"'"
    return "'" + quote(char)[1:-1] + "'"
