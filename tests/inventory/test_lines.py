import tomllib
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from olladist.inventory.lines import KeyPath, line_index


def paths(value: Any, path: KeyPath = ()) -> set[KeyPath]:
    """Every key path of a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {path}.union(*(paths(item, (*path, key)) for key, item in inner)) - {()}


keys = st.text(min_size=1, max_size=5) | st.sampled_from(
    ["a", "b-c", "d.e", "f g", '"', "'", "#", "=", "[x]", "\\", "ü"]
)
scalars = (
    st.text(max_size=8)
    | st.sampled_from(["a\nb", '"""', "'''", "# no comment", "]", "}", ",", "\\"])
    | st.integers(-(2**40), 2**40)
    | st.booleans()
    | st.floats(allow_nan=False)
    | st.dates()
    | st.times()
    | st.datetimes()
)
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
)
documents = st.dictionaries(keys, values, max_size=4)


@given(documents, st.booleans())
def test_every_key_has_a_line(document: dict[str, Any], multiline: bool) -> None:
    """The index has exactly the key paths of the document, whatever the keys and values are."""
    text = tomli_w.dumps(document, multiline_strings=multiline)

    assert set(line_index(text)) == paths(tomllib.loads(text))


class Writer:
    """Writes a document line by line, and knows the line of each key."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.lines: list[str] = []
        self.expected: dict[KeyPath, int] = {}

    def note(self, path: KeyPath) -> None:
        self.expected.setdefault(path, len(self.lines) + 1)

    def filler(self) -> None:
        self.lines.extend(self.draw(st.lists(st.sampled_from(["", "  ", "# [x]", "# a = 1", "\t# ]"]), max_size=2)))

    def key(self, number: int) -> tuple[str, str]:
        """A key that no other number gives, and how it is written."""
        name = self.draw(st.sampled_from(["k{}", "k-{}", "k.{}", "k {}", "ü{}"])).format(number)
        plain = name.replace("-", "").isalnum() and name.isascii()
        return name, name if plain else self.draw(st.sampled_from([f'"{name}"', f"'{name}'"]))

    def table(self, number: int) -> None:
        name, written = self.key(number)
        outer, outer_written = self.key(1000)
        path = (outer, name)
        if self.draw(st.booleans()):
            self.note((outer,))
            self.note(path)
            self.lines.append(f"[ {outer_written} . {written} ]  # [no]")
            self.members(path)
        else:
            for item in range(self.draw(st.integers(1, 3))):
                self.note((outer,))
                self.note(path)
                self.note((*path, item))
                self.lines.append(f"[[{outer_written}.{written}]]")
                self.members((*path, item))

    def members(self, path: KeyPath) -> None:
        for number in range(self.draw(st.integers(0, 4))):
            self.filler()
            self.member(path, number)

    def member(self, path: KeyPath, number: int) -> None:
        name, written = self.key(number)
        self.note((*path, name))
        shape = self.draw(st.sampled_from(["plain", "dotted", "text", "list", "inline"]))
        if shape == "plain":
            self.lines.append(
                f"{written} = {self.draw(st.sampled_from(['1', 'true', '1979-05-27 07:32:00', '-inf']))} # ,"
            )
        elif shape == "dotted":
            self.note((*path, name, "x"))
            self.lines.append(f"{written} . x = '#'")
        elif shape == "text":
            quotes = self.draw(st.sampled_from(['"""', "'''"]))
            self.lines.extend([f"{written} = {quotes}one # two", "[three]", f"k = 4{quotes[0]}{quotes}"])
        elif shape == "list":
            self.lines.append(f"{written} = [ # [")
            for item in range(self.draw(st.integers(0, 3))):
                self.filler()
                self.note((*path, name, item))
                self.note((*path, name, item, "y"))
                self.lines.append("{ y = ']' },")
            self.lines.append("]")
        else:
            for inner in ("y", "z"):
                self.note((*path, name, inner))
            self.note((*path, name, "z", 0))
            self.lines.append(f'{written} = {{ y = "}}", z = [ 2 ] }}')


@st.composite
def written_documents(draw: st.DrawFn) -> tuple[str, dict[KeyPath, int]]:
    writer = Writer(draw)
    writer.members(())
    for number in range(draw(st.integers(0, 3))):
        writer.filler()
        writer.table(number + 10)
    return draw(st.sampled_from(["\n", "\r\n"])).join([*writer.lines, ""]), writer.expected


@given(written_documents())
def test_every_key_has_its_line(written: tuple[str, dict[KeyPath, int]]) -> None:
    """Through comments, blank lines, long strings, nested arrays and both kinds of line ends."""
    text, expected = written
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return  # a key that was drawn twice in different spellings

    assert set(expected) == paths(document)
    assert line_index(text) == expected


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ("[a]\n[a.b]\nc = 1\n", ("a", "b", "c"), 3),
        ("[[a]]\n[a.b]\nc=1\n[[a]]\n[a.b]\nc=2\n", ("a", 1, "b", "c"), 6),
        ("[[a]]\n[[a.b]]\n[[a.b]]\nx=1\n[[a]]\n[[a.b]]\nx=2", ("a", 1, "b", 0, "x"), 7),
        ('"a\\u0062" = 1', ("ab",), 1),
        ("a = [\n  [1,\n   2],\n  [3]]", ("a", 0, 1), 3),
        ("a = { b.c = 1, d = { e = 2 } }", ("a", "d", "e"), 1),
        ('a = """\n"""""\nb = 1', ("b",), 3),
    ],
)
def test_nested_tables_and_arrays(text: str, path: KeyPath, line: int) -> None:
    """A header goes on in the latest item; escapes in keys are undone."""
    assert line_index(text)[path] == line
