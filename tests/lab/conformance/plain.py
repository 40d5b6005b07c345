"""What a client printed, without what differs from one run to the next."""

import json
import re
from typing import Any

from tests.lab.conformance.differences import BESIDE

_TIME = re.compile(r"(?:Less than a second|About an? \w+|\d+ \w+) (?:ago|from now)|Stopping\.\.\.|Forever")
_COLUMNS = re.compile(r" {2,}")
# Go's and Python's, and of the names that servers and clients give to answers.
_VARIES = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)?|\b(?:chatcmpl|cmpl|resp|msg|req|rs|call|fc|run|lc_run)[-_]+[\w-]+"
)
_NUMBERS = frozenset({"created", "created_at", "completed_at", "modified_at", "expires_at"})


def table(lines: tuple[str, ...], names: dict[str, str]) -> list[str]:
    """Lines of the screen: columns one blank apart, whose width names of another length change, and no times."""
    return [
        _COLUMNS.sub("  ", _TIME.sub("TIME", named(line, names))).rstrip() for line in lines if not BESIDE.match(line)
    ]


def named(text: str, names: dict[str, str]) -> str:
    for own, name in names.items():
        text = text.replace(own, name)
    return text


def documents(printed: str, names: dict[str, str]) -> list[Any]:
    """One JSON document a line."""
    return [_plain(json.loads(named(line, names))) for line in printed.splitlines()]


def _plain(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _plain(each, name) for name, each in value.items()}
    if isinstance(value, list):
        if value and all(isinstance(each, dict) and "status" in each and "id" not in each for each in value):
            return progress(value)
        if key in {"models", "data"}:  # those of one second are in any order
            value = sorted(value, key=str)
        return [_plain(each) for each in value]
    if key.endswith("_duration") or (key in _NUMBERS and isinstance(value, int | float)):
        return "VARIES"
    if isinstance(value, str):
        if key in {"modelfile", "parameters"}:  # out of a Go map
            return sorted(value.splitlines())
        return _VARIES.sub("VARIES", value)
    return value


def progress(lines: list[dict[str, Any]]) -> list[Any]:
    """Each step of a pull or push once, in its order; that what is completed only grows is judged here."""
    steps: list[Any] = []
    completed: dict[str, int] = {}
    for line in lines:
        if BESIDE.match(line.get("status") or ""):
            continue
        digest, done = line.get("digest") or "", line.get("completed") or 0
        assert done >= completed.get(digest, 0), f"went back: {line}"
        assert done <= (line.get("total") or 0), f"more than all of it: {line}"
        completed[digest] = done
        step = {key: value for key, value in line.items() if key != "completed" and value is not None}
        if step not in steps:
            steps.append(step)
    return [steps, completed]
