"""Words for a shell: the only place where text becomes part of a command line."""

import re
import shlex

# execve(2) takes at most 128 KiB in one argument (MAX_ARG_STRLEN); what is longer goes over stdin.
_ARGUMENT_LIMIT = 128 * 1024 - 1

_HARD = re.compile(r"(['\\]+)")


def quote(word: str) -> str:
    """One word for a POSIX shell, whatever is in it; ValueError for a NUL, which no argument can hold."""
    if "\0" in word:
        raise ValueError("a shell word cannot hold a NUL character")
    return shlex.quote(word)


def words(*parts: object) -> str:
    """A command of quoted words: `words("rm", "-f", path)`."""
    return " ".join(quote(str(part)) for part in parts)


def login_command(*parts: str) -> str:
    """`exec` of a command in words that every login shell reads alike: sh, bash, zsh and fish.

    Inside single quotes a backslash is itself, but in fish it may start an escape; so none ever stands there.
    """
    text = "exec " + " ".join(_portable(part) for part in parts)
    if len(text.encode()) > _ARGUMENT_LIMIT:
        raise ValueError(f"a script of {len(text.encode())} bytes does not fit into one argument; pass it on stdin")
    return text


def _portable(word: str) -> str:
    if quote(word) == word:
        return word
    pieces = (
        "".join('"\'"' if char == "'" else "\\\\" for char in piece) if piece[0] in "'\\" else f"'{piece}'"
        for piece in _HARD.split(word)
        if piece
    )
    return "".join(pieces) or "''"
