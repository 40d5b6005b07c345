"""Reading an inventory file: all of its problems at once, or the inventory."""

import re
import tomllib
from pathlib import Path
from typing import Any

from olladist.errors import InventoryError, Problem, UsageError
from olladist.inventory.check import check
from olladist.inventory.declared import read_tables
from olladist.inventory.lines import line_index
from olladist.inventory.model import Inventory
from olladist.inventory.problems import Problems
from olladist.inventory.resolve import resolve, resolve_hosts

# 10 000 hosts of 300 bytes each are 3 MB.
BYTES_MAX = 16 * 2**20

_AT = re.compile(r" \(at line (\d+), column (\d+)\)$")
_AT_END = " (at end of document)"


def load(path: Path) -> Inventory:
    """The inventory in `path`; InventoryError with all problems, UsageError where the file cannot be read."""
    return parse(read(path), path)


def read(path: Path) -> str:
    """The text of an inventory file; UsageError where it cannot be read."""
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}", hint="`olladist init user@host …` writes an inventory"
        ) from error
    if len(content) > BYTES_MAX:
        raise UsageError(f"{path} is larger than {BYTES_MAX // 2**20} MiB; is it an inventory?")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _one(path, line, "holds bytes that are not UTF-8", "save the file as UTF-8") from error


def parse(text: str, path: Path) -> Inventory:
    """The inventory that `text` declares; `path` names it in problems, and paths in it are relative to its folder."""
    document, problems = _read(text, path)
    declared = read_tables(document, problems)
    check(declared, resolve_hosts(declared, path.parent), problems)
    if problems:
        raise problems.error(path)
    return resolve(declared, path)


def _read(text: str, path: Path) -> tuple[dict[str, Any], Problems]:
    try:
        document = tomllib.loads(text)
        return document, Problems(line_index(text))
    except RecursionError as error:
        raise _one(path, 1, "is nested too deeply to be read") from error
    except ValueError as error:  # TOMLDecodeError is one, and so is what a date or a number of absurd size gives
        message = str(error)
        at = _AT.search(message)
        line = int(at[1]) if at else text.count("\n") + 1 if message.endswith(_AT_END) else 1
        cause = _AT.sub("", message).removesuffix(_AT_END)
        raise _one(path, line, f"is not TOML: {cause}", _toml_hint(cause, text, line)) from error


def _toml_hint(cause: str, text: str, line: int) -> str:
    """What is mostly meant by the most frequent mistakes."""
    lines = text.split("\n")
    content = lines[line - 1].strip() if line <= len(lines) else ""
    if "Cannot overwrite" in cause or "twice" in cause or "Cannot mutate" in cause:
        return "the same key or table stands there twice"
    if cause.startswith("Invalid value") and re.search(r"=\s*[A-Za-z/~.]", content):
        return 'a text stands in quotes: key = "text"'
    if cause.startswith(("Expected '='", "Invalid statement")) or ("table declaration" in cause and "]" in content):
        return 'a line is a [table], or key = value; a name with a dot or colon needs quotes: [models."llama3.2:3b"]'
    return ""


def _one(path: Path, line: int, text: str, hint: str = "") -> InventoryError:
    return InventoryError(str(path), (Problem(line, "", text, hint),))
