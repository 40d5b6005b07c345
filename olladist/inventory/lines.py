"""Where each key of a TOML text stands: tomllib gives values without their lines, and a problem needs its line."""

import re
import tomllib
from typing import TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]  # ("hosts", "gpu1", "instances", 0, "port")

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BASIC = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_LITERAL = re.compile(r"'[^'\n]*'")
# The delimiter may be preceded by one or two quotes that belong to the string.
_LONG_BASIC = re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}', re.DOTALL)
_LONG_LITERAL = re.compile(r"'''.*?'{3,5}", re.DOTALL)
_PLAIN = re.compile(r"[^,\]}#\n]*")


def line_index(text: str) -> dict[KeyPath, int]:
    """The line, from 1 on, of every table, key and array item; `text` is TOML that tomllib has accepted."""
    return _Reader(text).index()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._counted = 0  # up to where newlines are in _line
        self._lines: dict[KeyPath, int] = {}
        self._tables: dict[KeyPath, int] = {}  # items so far of arrays that are written as [[tables]]

    def index(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._member(table)
            self._skip(_BLANK)
        return self._lines

    def _header(self) -> KeyPath:
        """[table] or [[item of an array]]: the path that the keys below it begin with."""
        array = self._text.startswith("[[", self._at)
        self._at += 2 if array else 1
        path: KeyPath = ()
        *outer, last = self._keys()
        for key in outer:
            path = self._latest(self._note((*path, key)))
        path = self._note((*path, last))
        if array:
            self._tables[path] = self._tables.get(path, 0) + 1
            self._note(self._latest(path))
        self._at += 2 if array else 1
        return self._latest(path)

    def _latest(self, path: KeyPath) -> KeyPath:
        """A header goes on in the latest item of an array of tables."""
        return (*path, self._tables[path] - 1) if path in self._tables else path

    def _member(self, path: KeyPath) -> None:
        for key in self._keys():
            path = self._note((*path, key))
        self._at += 1  # =
        self._skip(_SPACE)
        self._value(path)

    def _keys(self) -> list[str]:
        keys: list[str] = []
        while True:
            self._skip(_SPACE)
            keys.append(self._key())
            self._skip(_SPACE)
            if self._text[self._at] != ".":
                return keys
            self._at += 1

    def _key(self) -> str:
        char = self._text[self._at]
        if char == '"':
            key = tomllib.loads(f"key = {self._skip(_BASIC)}")["key"]
            return str(key)
        if char == "'":
            return self._skip(_LITERAL)[1:-1]
        return self._skip(_BARE_KEY)

    def _value(self, path: KeyPath) -> None:
        text, at = self._text, self._at
        if text[at] == "[":
            self._items(path)
        elif text[at] == "{":
            self._members(path)
        elif text.startswith('"""', at):
            self._skip(_LONG_BASIC)
        elif text.startswith("'''", at):
            self._skip(_LONG_LITERAL)
        elif text[at] == '"':
            self._skip(_BASIC)
        elif text[at] == "'":
            self._skip(_LITERAL)
        else:
            self._skip(_PLAIN)

    def _items(self, path: KeyPath) -> None:
        self._at += 1
        number = 0
        while self._next_of("]"):
            self._value(self._note((*path, number)))
            number += 1

    def _members(self, path: KeyPath) -> None:
        self._at += 1
        while self._next_of("}"):
            self._member(path)

    def _next_of(self, closer: str) -> bool:
        """Moves to the next item of an array or inline table, or past its end."""
        self._skip(_BLANK)
        if self._text[self._at] == ",":
            self._at += 1
            self._skip(_BLANK)
        if self._text[self._at] != closer:
            return True
        self._at += 1
        return False

    def _note(self, path: KeyPath) -> KeyPath:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        self._lines.setdefault(path, self._line)
        return path

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise ValueError(f"no TOML at character {self._at}")
        self._at = match.end()
        return match[0]
