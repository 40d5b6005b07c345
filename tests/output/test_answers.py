"""What hosts said to exec."""

from olladist.fleet.execute import Answer
from olladist.output.answers import folded_text, lines_text, talk_text


def test_a_group_has_a_heading() -> None:
    """Names folded and counted; the output as it is, but for a newline at its end."""
    rule = "-" * 15

    assert folded_text(Answer(("gpu1", "gpu2"), 0, "Linux", ""), of=3) == f"{rule}\ngpu[1-2] (2)\n{rule}\nLinux\n"
    assert folded_text(Answer(("gpu3",), 0, "", ""), of=3) == f"{rule}\ngpu3\n{rule}\n"


def test_a_fleet_of_one_needs_none() -> None:
    """`olladist --limit gpu1 exec -- cat file > file` gives the file."""
    assert folded_text(Answer(("gpu1",), 0, "a\nb\n", ""), of=1) == "a\nb\n"


def test_lines_are_made_for_grep() -> None:
    """Every line behind its host."""
    assert lines_text(Answer(("gpu1", "gpu2"), 0, "a\nb\n", "")) == "gpu1: a\ngpu1: b\ngpu2: a\ngpu2: b\n"


def test_how_it_ended_is_talk() -> None:
    """stderr of the hosts, and a status or a signal where it was not 0."""
    assert list(talk_text(Answer(("gpu1",), 2, "", "no such file\n"))) == ["gpu1: no such file", "gpu1: exit status 2"]
    assert list(talk_text(Answer(("gpu1",), -9, "", ""))) == ["gpu1: ended by signal 9"]
    assert list(talk_text(Answer(("gpu1",), 0, "", ""))) == []
