"""Global options may stand anywhere, but never inside somebody else's command."""

from hypothesis import given
from hypothesis import strategies as st

from olladist.cli.words import split


def test_global_options_may_stand_after_the_command() -> None:
    """`status --json -i FILE` is `--json -i FILE status`."""
    assert split(["status", "--json", "-i", "f.toml", "--watch"]) == (["--json", "-i", "f.toml"], ["status", "--watch"])
    assert split(["models", "ls", "--limit=gpu1"]) == (["--limit=gpu1"], ["models", "ls"])


def test_the_command_of_exec_and_ssh_is_left_alone() -> None:
    """`exec -- uname -v` asks the hosts for their kernel and is no wish for verbose output."""
    assert split(["-v", "exec", "--", "uname", "-v"]) == (["-v"], ["exec", "--", "uname", "-v"])
    assert split(["exec", "uname", "-v"]) == ([], ["exec", "uname", "-v"])
    assert split(["ssh", "gpu1", "ls", "--json"]) == ([], ["ssh", "gpu1", "ls", "--json"])
    assert split(["exec", "--timeout", "5", "--limit", "gpu1", "uname", "-v"]) == (
        ["--limit", "gpu1"], ["exec", "--timeout", "5", "uname", "-v"]
    )  # fmt: skip
    assert split(["logs", "--", "--json"]) == ([], ["logs", "--", "--json"])


def test_an_option_without_its_value_stays_an_option() -> None:
    """typer shall complain about it, not we."""
    assert split(["status", "--limit"]) == (["--limit"], ["status"])


@given(st.lists(st.sampled_from(["status", "exec", "--", "--json", "-i", "x", "-v", "--limit", "models", "--yes"])))
def test_no_word_is_lost(words: list[str]) -> None:
    """Words only change places."""
    front, rest = split(words)

    assert sorted(front + rest) == sorted(words)
