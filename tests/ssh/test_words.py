import shutil
import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from olladist.ssh.words import login_command, quote, words

# What an argument can hold: no NUL, and no lone surrogates, which are no text.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)


def sh(command: str, *, shell: str = "/bin/sh") -> bytes:
    return subprocess.run([shell, "-c", command], capture_output=True, check=True).stdout


@given(st.lists(TEXT, min_size=1, max_size=4))
@example(["it's", "", "$HOME `x` \\", "a\nb\n", "-n", "é*?[!]"])
@settings(max_examples=60, deadline=None)
def test_words_arrive_as_they_were(parts: list[str]) -> None:
    """A shell gives exactly the words that were quoted, whatever characters they hold."""
    out = sh("printf '%s\\0' " + words(*parts))

    assert out == b"".join(part.encode() + b"\0" for part in parts)


@given(TEXT)
@example("a\\'b'\\\\c'")
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("shell", [s for s in ("sh", "dash", "bash", "zsh", "fish") if shutil.which(s)])
def test_login_command_is_read_alike_by_every_shell(shell: str, script_text: str) -> None:
    """A command for a login shell arrives the same in every shell that this machine has."""
    out = sh(login_command("printf", "%s", script_text), shell=str(shutil.which(shell)))

    assert out == script_text.encode()


@given(TEXT)
@example("'\\''")
def test_login_command_has_no_backslash_inside_single_quotes(text: str) -> None:
    """fish reads escapes inside single quotes, so neither backslash nor quote ever stands there."""
    rest = login_command(text).removeprefix("exec ")

    while rest:
        if rest[0] in "'\"":
            inside, rest = rest[1:].split(rest[0], 1)
            assert "\\" not in inside
        else:
            rest = rest[2:] if rest[0] == "\\" else rest[1:]


def test_nul_is_refused() -> None:
    """No argument can hold a NUL, so it is refused here and not cut short somewhere."""
    with pytest.raises(ValueError, match="NUL"):
        quote("a\0b")
    with pytest.raises(ValueError, match="NUL"):
        login_command("a\0b")


def test_a_script_too_long_for_one_argument_is_refused() -> None:
    """128 KiB is what execve takes; the message says to use stdin instead."""
    with pytest.raises(ValueError, match="pass it on stdin"):
        login_command("/bin/sh", "-c", "#" * 140_000)


def test_plain_words_stay_plain() -> None:
    """What needs no quotes has none, so that printed commands can be read."""
    assert words("systemctl", "restart", "ollama.service") == "systemctl restart ollama.service"
    assert login_command("/bin/sh", "-c", "echo hi") == "exec /bin/sh -c 'echo hi'"
