"""The framing of what facts.sh prints: "@name words" begins a section, "|" each line of its content."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Section:
    name: str
    words: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def first(self) -> str:
        return self.lines[0].strip() if self.lines else ""

    def values(self, key: str) -> tuple[str, ...]:
        """What follows `key=` in the lines that begin so."""
        return tuple(line[len(key) + 1 :] for line in self.lines if line.startswith(key + "="))

    def value(self, key: str) -> str:
        return next(iter(self.values(key)), "")

    def number(self, key: str) -> int | None:
        return number(self.value(key))


class Sections:
    """Looked up by name; a section that is not there is an empty one."""

    def __init__(self, output: str) -> None:
        self._all = tuple(_split(output))

    def all(self, name: str) -> tuple[Section, ...]:
        return tuple(section for section in self._all if section.name == name)

    def one(self, name: str) -> Section:
        """All sections of a name taken together."""
        return Section(name, "", tuple(line for section in self.all(name) for line in section.lines))

    def has(self, name: str, words: str = "") -> bool:
        return any(section.words == words for section in self.all(name))


def _split(output: str) -> Iterator[Section]:
    name, words, lines = "", "", list[str]()
    for line in output.split("\n"):
        if line.startswith("@"):
            if name:
                yield Section(name, words, tuple(lines))
            name, _, words = line[1:].strip().partition(" ")
            lines = []
        elif line.startswith("|"):
            lines.append(line[1:].rstrip("\r"))
        # anything else is noise: a banner, a line of somebody's .bashrc
    if name:
        yield Section(name, words, tuple(lines))


def number(text: str) -> int | None:
    """A whole number of at most 19 digits in ASCII, else None."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
