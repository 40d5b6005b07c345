"""The hosts of ~/.ssh/config, for `olladist init`: names only, since connecting reads the same file again."""

import os
import re
import shlex
from collections.abc import Iterator
from glob import glob
from pathlib import Path

from olladist.errors import UsageError
from olladist.inventory.destination import Destination, is_host

# readconf.c READCONF_MAX_DEPTH
_DEPTH_MAX = 16
_BYTES_MAX = 2**20

_LINE = re.compile(r"([A-Za-z]+)(?:[ \t]*=[ \t]*|[ \t]+)(.*)")


def ssh_hosts(path: Path) -> tuple[Destination, ...]:
    """Every name that a Host line gives without a wildcard, once, in the order of the file; Include is followed.

    Left out are those whose User is git: code hosting, not machines. UsageError where a file cannot be read.
    """
    users: dict[str, str] = {}
    names: tuple[str, ...] = ()
    for keyword, words in _lines(path, path.parent, ()):
        if keyword == "host":
            names = tuple(word for word in words if is_host(word))
            for name in names:
                users.setdefault(name, "")
        elif keyword == "match":
            names = ()
        elif keyword == "user" and words:
            for name in names:
                users[name] = users[name] or words[0]  # the first value counts, as for ssh
    return tuple(Destination(name) for name, user in users.items() if user != "git")


def _lines(path: Path, folder: Path, within: tuple[Path, ...]) -> Iterator[tuple[str, list[str]]]:
    """Keyword in lower case and its words, with included files in place, but for one that includes itself."""
    for line in _read(path).splitlines():
        match = _LINE.fullmatch(line.strip())
        if match is None:
            continue
        keyword, words = match[1].lower(), _words(match[2])
        if keyword != "include":
            yield keyword, words
        elif len(within) < _DEPTH_MAX:
            for included in (included for word in words for included in _included(word, folder)):
                if included not in (path, *within):
                    yield from _lines(included, folder, (path, *within))


def _included(word: str, folder: Path) -> list[Path]:
    """The files that an Include names, which may be none; relative to the folder of the user's file (ssh_config(5)).

    glob(3), which ssh uses, knows no "**": it is a "*", and never walks through a whole file system.
    """
    pattern = os.path.join(folder, os.path.expanduser(word))  # noqa: PTH111, PTH118  Path's expanduser raises for an unknown user
    try:
        return sorted(Path(found) for found in glob(pattern) if Path(found).is_file())  # noqa: PTH207  Path.glob knows "**"
    except (ValueError, OSError):  # a null byte, a name that is too long
        return []


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError:  # a quote without its other half
        return text.split()


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_BYTES_MAX).decode("utf-8", "replace")
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}", hint="name the hosts instead: olladist init user@host …"
        ) from error
