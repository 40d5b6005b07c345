"""The framing of facts.sh's output."""

from hypothesis import given
from hypothesis import strategies as st

from olladist.host.sections import Section, Sections, number

LINE = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=40)


def test_noise_of_login_shells_is_no_content() -> None:
    """Banners and lines of a .bashrc, before or between sections, are left out."""
    sections = Sections("Welcome to Ubuntu!\n@os\n|ID=ubuntu\nnvm: loaded\n|VERSION_ID=24.04\n@done host\n")

    assert sections.one("os").lines == ("ID=ubuntu", "VERSION_ID=24.04")
    assert sections.has("done", "host")


def test_a_section_that_is_not_there_is_empty() -> None:
    """Nobody has to ask first whether a fact was found."""
    assert Sections("").one("gpu") == Section("gpu", "", ())
    assert Sections("").one("gpu").first == ""


def test_sections_of_one_name_are_kept_apart_by_their_words() -> None:
    """`@file A` and `@file B` are two; `one` puts all of a name together."""
    sections = Sections("@file /a b\n|1\n@file /c\n|2")

    assert [(section.words, section.text) for section in sections.all("file")] == [("/a b", "1"), ("/c", "2")]
    assert sections.one("file").lines == ("1", "2")


@given(st.lists(st.tuples(st.sampled_from(["os", "unit x"]), st.lists(LINE, max_size=4)), max_size=5))
def test_content_may_hold_anything_but_a_newline(wanted: list[tuple[str, list[str]]]) -> None:
    """What a command printed comes back line by line, even where it looks like a section."""
    output = "".join(f"@{head}\n" + "".join(f"|{line}\n" for line in lines) for head, lines in wanted)

    found = [section for name in ("os", "unit") for section in Sections(output).all(name)]

    assert sorted(found, key=repr) == sorted(
        (Section(*(*head.partition(" ")[::2],), tuple(line.rstrip("\r") for line in lines)) for head, lines in wanted),
        key=repr,
    )


@given(st.text(max_size=30))
def test_a_number_is_digits_and_nothing_else(text: str) -> None:
    """No sign, no digits of other scripts, none so long that it would be a riddle to print."""
    found = number(text)

    assert found is None or (found >= 0 and text.strip().isascii() and str(found) == text.strip().lstrip("0").zfill(1))
