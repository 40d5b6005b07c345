"""Picking hosts by pattern: `gpu1,rack2,!gpu7,gpu[3-9],*-a100` names hosts and groups.

Parts are separated by commas. A part is a name, or a pattern with `*`, `?` and brackets: `[3-9]`, `[1-4,8]` and `[01-16]`
stand for numbers, `[abc]` for one of these characters. A part that begins with `!` takes hosts away, wherever it
stands; where there are only such parts, they take away from all hosts.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from olladist.errors import UsageError
from olladist.inventory.model import DeclaredModel, Host, Inventory
from olladist.inventory.problems import nearest

_TOKEN = re.compile(r"\[([^\[\]]*)\]|([*?])|([^\[\]*?]+)|([\[\]])")
_NUMBERS = re.compile(r"[0-9]{1,9}(?:-[0-9]{1,9})?(?:,[0-9]{1,9}(?:-[0-9]{1,9})?)*")
# A range is spelled out into a regular expression: 10 000 numbers are 60 kB of it.
_NUMBERS_MAX = 10_000


def select(inventory: Inventory, pattern: str | None) -> tuple[Host, ...]:
    """The hosts that `pattern` picks, in the order of the file; all of them without one.

    UsageError for a part that matches nothing, and where nothing is left.
    """
    if pattern is None:
        return tuple(inventory.hosts.values())
    names = choose(inventory.hosts, inventory.groups, [pattern])
    if not names:
        raise UsageError(f"{pattern!r} leaves no host", hint=_known(inventory.hosts, inventory.groups))
    return tuple(host for name, host in inventory.hosts.items() if name in names)


def hosts_for(inventory: Inventory, model: DeclaredModel) -> tuple[Host, ...]:
    """The hosts that a model's `on` allows, in the order of the file; which of them `replicas` takes is decided elsewhere."""
    names = choose(inventory.hosts, inventory.groups, model.on)
    return tuple(host for name, host in inventory.hosts.items() if name in names)


def choose(hosts: Collection[str], groups: Mapping[str, Collection[str]], patterns: Iterable[str]) -> frozenset[str]:
    """The names that all of `patterns` together pick, perhaps none; UsageError for a part that matches nothing."""
    taken: set[str] = set()
    dropped: set[str] = set()
    only_away = True
    for part in (part for pattern in patterns for part in _parts(pattern)):
        away = part.startswith("!")
        only_away = only_away and away
        (dropped if away else taken).update(_matching(hosts, groups, part.removeprefix("!").strip()))
    return frozenset((set(hosts) if only_away else taken) - dropped)


def _parts(pattern: str) -> Iterator[str]:
    """Split at commas, but for those in brackets."""
    parts, inside = [""], False
    for char in pattern:
        inside = char == "[" or (inside and char != "]")
        if char == "," and not inside:
            parts.append("")
        else:
            parts[-1] += char
    parts = [part.strip() for part in parts]
    if not any(parts):
        raise UsageError("an empty pattern picks no host", hint='"*" stands for all hosts')
    return filter(None, parts)


def _matching(hosts: Collection[str], groups: Mapping[str, Collection[str]], part: str) -> set[str]:
    if part in hosts:
        return {part}
    if part in groups:
        return set(groups[part])
    expression = _expression(part)
    found = {host for host in hosts if expression.fullmatch(host)}
    matched = [group for group in groups if expression.fullmatch(group)]
    if not found and not matched:
        hint = nearest(part, [*hosts, *groups]) or _known(hosts, groups)
        if re.search(r"[*?\[]", part):
            raise UsageError(f"{part!r} matches neither a host nor a group", hint=hint)
        raise UsageError(f"{part!r} is neither a host nor a group", hint=hint)
    return found.union(*(groups[group] for group in matched))


def _expression(part: str) -> re.Pattern[str]:
    """The pattern as a regular expression for fullmatch.

    What stands between two stars takes its first place and never another one, which is right for globs and keeps
    `*a*a*a*a*b` from trying all of them.
    """
    pieces = [""]
    for numbers, wild, plain, bracket in _TOKEN.findall(part):
        if bracket:
            raise UsageError(f"{part!r} has a bracket without its other half")
        if wild == "*":
            pieces.append("")
        elif wild:
            pieces[-1] += "."
        else:
            pieces[-1] += re.escape(plain) if plain else _bracket(numbers, part)
    first, *rest = pieces
    if not rest:
        return re.compile(first)
    *middle, last = rest
    return re.compile(first + "".join(f"(?>.*?{piece})" for piece in middle) + ".*" + last)


def _bracket(content: str, part: str) -> str:
    if _NUMBERS.fullmatch(content):
        return "(?:" + "|".join(sorted(_numbers(content, part), key=lambda number: (len(number), number))) + ")"
    if not content:
        raise UsageError(f"{part!r} has nothing in its brackets")
    negated = content[0] in "!^" and len(content) > 1
    return f"[{'^' if negated else ''}{_characters(content[1:] if negated else content, part)}]"


def _characters(content: str, part: str) -> str:
    """The inside of a character class, "a-f" being a range as in a shell."""
    text = ""
    while content:
        if len(content) > 2 and content[1] == "-":
            if content[0] > content[2]:
                raise UsageError(f"{part!r} has a range that runs backwards")
            text += f"{re.escape(content[0])}-{re.escape(content[2])}"
            content = content[3:]
        else:
            text += re.escape(content[0])
            content = content[1:]
    return text


def _numbers(content: str, part: str) -> set[str]:
    """What "1-3,08-10" stands for, spelled out; a leading zero asks for that many digits."""
    numbers: set[str] = set()
    for item in content.split(","):
        low, dash, high = item.partition("-")
        first, last = int(low), int(high if dash else low)
        if first > last:
            raise UsageError(f"{part!r} has a range that runs backwards")
        if last - first + len(numbers) >= _NUMBERS_MAX:
            raise UsageError(f"{part!r} stands for more than {_NUMBERS_MAX} numbers")
        width = len(low) if low.startswith("0") else 0
        numbers.update(f"{number:0{width}}" for number in range(first, last + 1))
    return numbers


def _known(hosts: Collection[str], groups: Mapping[str, Collection[str]]) -> str:
    """Names to choose from, not more than fit on a line."""
    names = [*hosts, *groups]
    return f"known are {', '.join(names[:12])}" + (f" and {len(names) - 12} more" if len(names) > 12 else "")
