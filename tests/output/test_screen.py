"""stdout is data, stderr is talk."""

import json
import os
import pty
import subprocess
import sys
from io import StringIO

import pytest
from rich.text import Text

from olladist.output.documents import InitDocument
from olladist.output.screen import Screen, piped
from olladist.output.table import plain_table
from olladist.output.watch import redrawn


def test_a_document_takes_the_place_of_what_people_read() -> None:
    """With json one document on stdout and nothing else; without it the other way round."""
    for json_wanted in (True, False):
        out = StringIO()
        screen = Screen(piped(out), piped(StringIO()), json=json_wanted)
        screen.show(Text("for people"))
        screen.document(InitDocument(path="x", hosts=()))

        if json_wanted:
            assert json.loads(out.getvalue()) == {"schema": "olladist.init", "version": 1, "path": "x", "hosts": []}
        else:
            assert out.getvalue() == "for people\n"


def test_a_pipe_gets_whole_lines() -> None:
    """However long a cell is, its line is neither broken nor cut, and ends without blanks."""
    out = StringIO()
    table = plain_table("A", "B")
    table.add_row("x" * 300, "y")
    table.add_row("x", "z" * 300)
    Screen(piped(out), piped(StringIO())).show(table)

    assert out.getvalue().splitlines() == [
        "A" + " " * 301 + "B",
        "x" * 300 + "  y",
        "x" + " " * 301 + "z" * 300,
    ]


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_a_terminal_gets_colours_unless_told_not_to(no_color: str, coloured: bool) -> None:
    """NO_COLOR counts where it is set to anything but the empty string."""
    ours, theirs = pty.openpty()
    script = (
        "from rich.text import Text; from olladist.output.screen import open_screen; "
        "open_screen().talk(Text('red', 'red'))"
    )
    environ = {**os.environ, "TERM": "xterm-256color", "NO_COLOR": no_color}
    done = subprocess.run([sys.executable, "-c", script], stdout=theirs, stderr=theirs, env=environ, check=True)
    said = os.read(ours, 1000).decode()
    os.close(ours)
    os.close(theirs)

    assert done.returncode == 0
    assert ("\x1b[31m" in said) == coloured
    assert "red" in said


def test_without_a_terminal_versions_stand_one_after_the_other() -> None:
    """status --watch into a file."""
    out = StringIO()
    with redrawn(Screen(piped(out), piped(StringIO()))) as show:
        show(Text("one"))
        show(Text("two"))

    assert out.getvalue() == "one\ntwo\n"
