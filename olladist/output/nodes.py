"""Host names, folded: gpu1, gpu2, gpu3 and box are written gpu[1-3],box, which `--limit` reads back."""

import re
from collections.abc import Iterable

_NUMBERED = re.compile(r"(.*?)(0|[1-9][0-9]{0,8})")


def fold(names: Iterable[str]) -> str:
    """One pattern for all of `names`, in the order in which their prefixes first come.

    Leading zeros belong to the prefix (gpu01 and gpu02 are gpu0[1-2]), so that a range never loses them.
    """
    numbers: dict[str, list[int] | None] = {}
    for name in names:
        match = _NUMBERED.fullmatch(name)
        if match is None:
            numbers.setdefault(name, None)
        else:
            found = numbers.setdefault(match[1] + "[", [])
            if found is not None:
                found.append(int(match[2]))
    parts = []
    for prefix, found in numbers.items():
        parts += [prefix] if found is None else [_range(prefix[:-1], run) for run in _runs(found)]
    return ",".join(parts)


def _runs(numbers: list[int]) -> list[list[int]]:
    """Consecutive numbers together."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def _range(prefix: str, run: list[int]) -> str:
    return f"{prefix}{run[0]}" if len(run) == 1 else f"{prefix}[{run[0]}-{run[-1]}]"
