from pathlib import Path

import pytest

from olladist.errors import GatewayError
from olladist.gateway.access import digest_of
from olladist.gateway.control.keys import Keys, resolve
from olladist.gateway.lease import Access, Key
from olladist.inventory.model import ApiKey

GOOD = "abcdefghijklmnop0123456789"


def problem_of(*declared: ApiKey, **environ: str) -> str:
    with pytest.raises(GatewayError) as raised:
        resolve(declared, environ)
    assert "olladist proxy key" in raised.value.hint
    return raised.value.message


def test_keys_are_found_where_they_are_kept(tmp_path: Path) -> None:
    """A variable, a file with its line end, a digest: only digests are kept."""
    file = tmp_path / "key"
    file.write_text(f"{GOOD}-file\n")

    keys = resolve(
        (
            ApiKey("one", variable="ONE", models=("tiny",)),
            ApiKey("two", file=file, manage=True),
            ApiKey("three", sha256="f" * 64),
        ),
        {"ONE": GOOD},
    )

    assert keys == (
        Key("one", digest_of(GOOD.encode()), ("tiny",)),
        Key("two", digest_of(f"{GOOD}-file".encode()), manage=True),
        Key("three", "f" * 64),
    )


def test_a_key_that_is_not_there_is_named_with_what_to_do(tmp_path: Path) -> None:
    """All that are missing at once, each with its table, its source and the next step."""
    text = problem_of(
        ApiKey("one", variable="NOT_SET"), ApiKey("two", file=tmp_path / "gone"), ApiKey("three", file=tmp_path)
    )

    assert "[gateway.keys.one] the variable NOT_SET is not set: set it where the gateway is started" in text
    assert f"[gateway.keys.two] the file {tmp_path / 'gone'} cannot be read: No such file or directory" in text
    assert f"[gateway.keys.three] the file {tmp_path} cannot be read: Is a directory" in text


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        ("", "is empty"),
        ("  \n", "is empty"),
        ("short", "5 characters, which can be guessed: 16 at least"),
        ("x" * 600, "at most 512 ASCII characters"),
        ("two words of a pass phrase", "no blanks"),
        (f"{GOOD}\n{GOOD}", "one line"),
        (f"{GOOD}\xe9", "ASCII"),
    ],
)
def test_what_is_no_key_is_refused_without_being_shown(secret: str, said: str) -> None:
    """The message says what is wrong with it; nothing of it stands there."""
    text = problem_of(ApiKey("team", variable="TEAM"), TEAM=secret)

    assert text.splitlines()[1].startswith("[gateway.keys.team] the variable TEAM ")
    assert said in text
    assert secret.strip()[:8] not in text or not secret.strip()


def test_one_key_under_two_names_is_refused() -> None:
    """Whose rights and rates would count?"""
    text = problem_of(ApiKey("a", variable="A"), ApiKey("b", sha256=digest_of(GOOD.encode())), A=GOOD)

    assert "[gateway.keys.b] is the same key as 'a'" in text


def test_other_keys_replace_the_old_ones_whole() -> None:
    """Those of an inventory with a mistake do not."""
    keys = Keys((ApiKey("a", variable="A"),), {"A": GOOD})
    keys.swap((ApiKey("b", sha256="b" * 64, requests_per_minute=3),), {})
    with pytest.raises(GatewayError):
        keys.swap((ApiKey("c", variable="C"),), {})

    assert keys.get("a") is None
    assert keys.access == Access((Key("b", "b" * 64),))
    assert keys.declared["b"].requests_per_minute == 3


def test_a_restart_goes_on_with_the_digests_of_before(tmp_path: Path) -> None:
    """Where a key cannot be read any more, which is an error at a first start; what is kept opens nothing."""
    kept, declared = tmp_path / "keys", (ApiKey("a", variable="A", requests_per_minute=3),)
    with pytest.raises(GatewayError):
        Keys.first(declared, kept, {})
    first = Keys.first(declared, kept, {"A": GOOD})

    again = Keys.first(declared, kept, {})

    assert again.access == first.access == Access((Key("a", digest_of(GOOD.encode())),))
    assert again.declared["a"].requests_per_minute == 3
    assert GOOD not in kept.read_text()
    assert kept.stat().st_mode & 0o777 == 0o600
