"""systemd unit files, read and written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.host.unitfile import command, environment_lines, quoted, read_service, split_words

VALUE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)

OFFICIAL = """[Unit]
Description=Ollama Service
After=network-online.target

[Service]
ExecStart=/usr/local/bin/ollama serve
User=ollama
Group=ollama
Restart=always
RestartSec=3
Environment="PATH=/usr/local/sbin:/usr/local/bin:/usr/bin"

[Install]
WantedBy=default.target
"""


def test_the_official_installers_unit_is_understood() -> None:
    """Binary, user and environment of the file that Ollama's install.sh writes."""
    service = read_service([OFFICIAL])

    assert (service.binary, service.user) == ("/usr/local/bin/ollama", "ollama")
    assert service.environment == {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/bin"}


def test_drop_ins_win_and_an_empty_setting_takes_back() -> None:
    """Files are read in order, as systemd merges them."""
    override = '[Service]\nExecStart=\nExecStart=/opt/x/ollama serve\nEnvironment="OLLAMA_HOST=:5000" A=b\n'
    reset = "[Service]\nEnvironment=\nEnvironment=C=d\n"

    assert read_service([OFFICIAL, override]).binary == "/opt/x/ollama"
    assert read_service([OFFICIAL, override]).environment["OLLAMA_HOST"] == ":5000"
    assert read_service([OFFICIAL, override, reset]).environment == {"C": "d"}


def test_comments_continuations_and_other_sections_are_told_apart() -> None:
    """A setting goes on after a backslash, across a comment; [Unit] has no Environment=."""
    text = "[Unit]\nEnvironment=NO=1\n[Service]\n# Environment=NO=2\nEnvironment=A=1 \\\n; a word between\n  B=2\n"

    assert read_service([text]).environment == {"A": "1", "B": "2"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a  b", ["a", "b"]),
        ("\"a b\" 'c d'", ["a b", "c d"]),
        (r"a\ b \x41\101 \n", ["a b", "AA", "\n"]),
        ('"" x', ["", "x"]),
        ('"unclosed', ["unclosed"]),
        ("", []),
    ],
)
def test_words_are_split_as_systemd_splits_them(text: str, words: list[str]) -> None:
    """Quotes group, backslashes escape (systemd.syntax(7))."""
    assert split_words(text) == words


@given(st.dictionaries(st.from_regex(r"[A-Z_]{1,12}", fullmatch=True), VALUE, max_size=4))
def test_an_environment_that_we_write_reads_back(environment: dict[str, str]) -> None:
    """Quotes, backslashes, percent signs, blanks and newlines included."""
    text = "[Service]\n" + "\n".join(environment_lines(environment)) + "\n"

    assert read_service([text]).environment == environment


@given(VALUE)
def test_a_quoted_value_stays_on_its_line(value: str) -> None:
    """No value can begin a setting of its own."""
    assert not set(quoted(value)) & {"\n", "\r", "\0"}
    assert len(split_words(quoted(value))) == 1


def test_a_dollar_in_a_command_is_no_variable() -> None:
    """ExecStart= expands $NAME, Environment= does not (systemd.service(5))."""
    assert command("/home/a$b/100%/ollama", "serve") == '"/home/a$$b/100%%/ollama" "serve"'
    assert quoted("a$b") == '"a$b"'


@given(st.text(max_size=200))
def test_any_text_is_read_without_an_error(text: str) -> None:
    """Unit files come from the host: whatever stands in them, reading ends in values."""
    read_service([text, f"[Service]\n{text}"])
