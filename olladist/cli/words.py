"""The words of a command line, put in order before typer reads them."""

from collections.abc import Sequence

FLAGS = frozenset({"--json", "-v", "--verbose"})
VALUED = frozenset({"-i", "--inventory", "--limit"})
# What follows these commands may be somebody else's command line: nothing in it is ours.
FOREIGN = frozenset({"exec", "ssh"})


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The global options, wherever they stand, and the command with all that is its own.

    Nothing after `--` is touched, nor anything after a command whose arguments are a command line themselves.
    """
    front: list[str] = []
    rest: list[str] = []
    left = iter(words)
    for word in left:
        if word == "--" or (word in FOREIGN and not rest):
            rest += [word, *left]
        elif word in FLAGS or word.startswith(("--inventory=", "--limit=")):
            front.append(word)
        elif word in VALUED:
            front += [word, *([value] if (value := next(left, None)) is not None else [])]
        else:
            rest.append(word)
    return front, rest
