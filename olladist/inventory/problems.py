"""Collecting what is wrong with an inventory file, each with its line, its key and the next step."""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from olladist.errors import InventoryError, Problem
from olladist.inventory.lines import KeyPath

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def nearest(word: str, known: Iterable[str]) -> str:
    """The hint that names what may have been meant; "" where nothing comes near."""
    by_lower = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), by_lower, n=1)
    return f"did you mean {by_lower[near[0]]}?" if near else ""


def shown(path: KeyPath) -> str:
    """A key path as TOML writes it: hosts.gpu1.instances[0].port, models."llama3.2:3b"."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            key = part if _BARE_KEY.fullmatch(part) else json.dumps(part, ensure_ascii=False)
            text += f".{key}" if text else key
    return text


def kind(value: Any) -> str:
    """What a value is in the words of TOML."""
    names = {bool: "a boolean", int: "a whole number", float: "a decimal number", str: "a string", list: "a list", dict: "a table"}  # fmt: skip
    return names.get(type(value), "a date or time")


class Problems:
    def __init__(self, lines: Mapping[KeyPath, int]) -> None:
        self._lines = lines
        self._found: list[Problem] = []
        self._touched: set[KeyPath] = set()

    def add(self, path: KeyPath, text: str, hint: str = "") -> None:
        while path and isinstance(path[-1], int) and path not in self._lines:
            path = path[:-1]  # one string was written where a list may stand
        self._touched.add(path)
        self._found.append(Problem(self._line(path), shown(path), text, hint))

    def touch(self, path: KeyPath) -> bool:
        """True where something is wrong with this key, or with one in it."""
        return any(touched[: len(path)] == path for touched in self._touched)

    def unknown_key(self, path: KeyPath, known: Collection[str]) -> None:
        hint = _MISPLACED.get((_where(path[:-1]), str(path[-1]))) or nearest(str(path[-1]), known)
        self.add(path, "is not a key that is known here", hint or f"known are {', '.join(sorted(known))}")

    def wrong_type(self, path: KeyPath, expected: str, value: Any) -> None:
        hint = f"write {json.dumps(str(value))}" if expected == "a string" and isinstance(value, int | float) else ""
        if expected == "a whole number" and isinstance(value, str) and value.strip().isdecimal():
            hint = f"write {value.strip()} without quotes"
        self.add(path, f"must be {expected}, not {kind(value)}", hint)

    def __bool__(self) -> bool:
        return bool(self._found)

    def error(self, path: Path) -> InventoryError:
        ordered = sorted(dict.fromkeys(self._found), key=lambda problem: problem.line)
        return InventoryError(str(path), tuple(ordered))

    def _line(self, path: KeyPath) -> int:
        """That of the key, or of the nearest table around it."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)


def _where(path: KeyPath) -> str:
    """The section of a table, whose keys may have a meaning in another one."""
    return str(path[0]) if path else ""


# Keys that people put into the wrong table: what to do instead.
_MISPLACED = {
    ("groups", "hosts"): 'a host names its groups itself: groups = ["…"] in its own table',
    ("groups", "address"): "an address belongs to one host",
    ("groups", "groups"): "groups do not hold groups; list both in the host's `groups`",
    ("defaults", "address"): "an address belongs to one host",
    ("defaults", "groups"): "groups are listed by each host",
    ("defaults", "mirror"): "it belongs to [fleet]",
    ("defaults", "checksums"): "it belongs to [fleet]",
    ("hosts", "host"): "did you mean address?",
    ("hosts", "hostname"): "did you mean address?",
    ("hosts", "password"): "olladist takes no passwords from files; it asks for sudo's, and SSH uses keys",
    ("hosts", "gpus"): "GPUs belong to an instance: instances = [{ port = 11434, gpus = [0] }]",
    ("hosts", "models"): "models are placed from [models.NAME] with `on` or `replicas`",
    ("gateway", "key"): "secrets are never stored in the inventory; use key_env or key_file",
    ("gateway", "port"): 'it is part of `listen`: listen = "127.0.0.1:11434"',
    ("models", "hosts"): "did you mean on?",
}
