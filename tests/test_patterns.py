"""Regular expressions mean the same in every Python that we run on."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import olladist

# How the pattern compiler spells what it has read; it has no public name.
read: Any = importlib.import_module("re._parser")


def repeated(tree: Any) -> Iterator[Any]:
    """What is repeated possessively, wherever it stands in the pattern."""
    if not isinstance(tree, list | tuple | read.SubPattern):
        return
    for part in tree:
        if isinstance(part, tuple) and len(part) == 2 and str(part[0]) == "POSSESSIVE_REPEAT":
            yield part[1][2]
        yield from repeated(part)


def is_safe(body: Any) -> bool:
    """Whether it is one character, or a group that is atomic."""
    return len(body) == 1 and str(body[0][0]) in {"ATOMIC_GROUP", "IN", "LITERAL", "NOT_LITERAL", "ANY"}


def test_a_group_that_is_repeated_possessively_is_atomic() -> None:
    """CPython 3.11 up to 3.11.4 reads others wrong where what is repeated could match in two ways (gh-106052); Debian 12 has 3.11.2."""
    names = [each.name for each in pkgutil.walk_packages(olladist.__path__, "olladist.") if "__main__" not in each.name]
    values = [(name, value) for name in names for value in vars(importlib.import_module(name)).values()]
    patterns = {(name, value.pattern, value.flags) for name, value in values if isinstance(value, re.Pattern)}

    bodies = [(each, body) for each in patterns for body in repeated(read.parse(each[1], each[2]))]
    assert any(str(body[0][0]) == "ATOMIC_GROUP" for _, body in bodies)
    assert [each for each, body in bodies if not is_safe(body)] == []
    assert not is_safe(next(repeated(read.parse("(?:a|bc)*+"))))
