"""The words of a command line, put in order before typer reads them."""

from collections.abc import Sequence

FLAGS = frozenset({"--json", "-v", "--verbose"})
VALUED = frozenset({"-i", "--inventory", "--limit"})
# What follows these commands is somebody else's command line from its first plain word on: nothing in that is ours.
FOREIGN = frozenset({"exec", "ssh"})
# Their own options that take a value: it is no plain word.
FOREIGN_VALUED = frozenset({"--timeout"})


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The global options, wherever they stand, and the command with all that is its own.

    Nothing after `--` is touched, nor what an `exec` or `ssh` shall run.
    """
    front: list[str] = []
    rest: list[str] = []
    left = iter(words)
    for word in left:
        foreign = rest[:1] and rest[0] in FOREIGN
        if word == "--" or (foreign and not word.startswith("-")):
            rest += [word, *left]
        elif foreign and word in FOREIGN_VALUED:
            rest += [word, *([value] if (value := next(left, None)) is not None else [])]
        elif word in FLAGS or word.startswith(("--inventory=", "--limit=")):
            front.append(word)
        elif word in VALUED:
            front += [word, *([value] if (value := next(left, None)) is not None else [])]
        else:
            rest.append(word)
    return front, rest
