from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.errors import UsageError
from olladist.gateway.environment import overrides_of, with_environment
from olladist.gateway.settings import Overrides, Settings, decode, encode

SETTINGS = Settings(run_dir="/run/x", inventory="/inventory.toml")
VARIABLES = (
    "OLLAMA_DISTRIBUTED",
    "OLLAMA_STANDALONE",
    "OLLAMA_LOCAL_ADDR",
    "OLLAMA_FALLBACK",
    "OLLAMA_ADMIN_TOKEN",
    "OLLAMA_ORIGINS",
)


@pytest.mark.parametrize(
    ("environ", "overrides"),
    [
        ({}, Overrides()),
        (dict.fromkeys(VARIABLES, " "), Overrides()),
        ({"OLLAMA_DISTRIBUTED": "true"}, Overrides(mode="distributed")),
        ({"OLLAMA_DISTRIBUTED": "0"}, Overrides(mode="local")),
        ({"OLLAMA_STANDALONE": "FALSE"}, Overrides()),
        ({"OLLAMA_STANDALONE": "1", "OLLAMA_DISTRIBUTED": "true"}, Overrides(mode="standalone")),
        ({"OLLAMA_FALLBACK": "true"}, Overrides(fallback=("local", "cache"))),
        ({"OLLAMA_FALLBACK": "False"}, Overrides(fallback=())),
        ({"OLLAMA_FALLBACK": " cache , Local,"}, Overrides(fallback=("local", "cache"))),
        ({"OLLAMA_FALLBACK": "cache"}, Overrides(fallback=("cache",))),
        ({"OLLAMA_LOCAL_ADDR": "http://127.0.0.1:11435/"}, Overrides(local="http://127.0.0.1:11435")),
        ({"OLLAMA_LOCAL_ADDR": "Box.example:80"}, Overrides(local="http://box.example:80")),
        ({"OLLAMA_LOCAL_ADDR": "http://[::1]:11435"}, Overrides(local="http://[::1]:11435")),
    ],
)
def test_what_the_variables_mean(environ: dict[str, str], overrides: Overrides) -> None:
    """An empty variable is none; OLLAMA_STANDALONE wins; an address may do without its scheme."""
    assert overrides_of(environ) == overrides


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("OLLAMA_DISTRIBUTED", "maybe", "OLLAMA_DISTRIBUTED='maybe' is neither true nor false"),
        ("OLLAMA_STANDALONE", "2", "OLLAMA_STANDALONE='2' is neither true nor false"),
        ("OLLAMA_FALLBACK", "local,nodes", "OLLAMA_FALLBACK='local,nodes' has 'nodes' in it, which is no fallback"),
        ("OLLAMA_LOCAL_ADDR", "https://box:1", "'https://box:1' is https: "),
        ("OLLAMA_LOCAL_ADDR", "http://box:1/ollama", "has a path"),
        ("OLLAMA_LOCAL_ADDR", "http://box", "names no port"),
        ("OLLAMA_LOCAL_ADDR", "http://box:0", "names no port"),
        ("OLLAMA_LOCAL_ADDR", "http://box:99999", "is no URL of an Ollama"),
        ("OLLAMA_LOCAL_ADDR", "ftp://box:1", "is no URL of an Ollama"),
        ("OLLAMA_LOCAL_ADDR", "http://-x:1", "is no URL of an Ollama"),
        ("OLLAMA_LOCAL_ADDR", "http://me:secret@box:1", "holds a user or a password"),
        ("OLLAMA_ADMIN_TOKEN", "short", "OLLAMA_ADMIN_TOKEN has 5 characters, which can be guessed: 16 at least"),
        ("OLLAMA_ADMIN_TOKEN", "with a blank in it", "OLLAMA_ADMIN_TOKEN cannot be sent in a header"),
    ],
)
def test_a_bad_value_is_refused(name: str, value: str, said: str) -> None:
    """The message names the variable, and the hint what is allowed; a secret is never in it."""
    with pytest.raises(UsageError) as caught:
        with_environment(SETTINGS, (), {name: value})

    assert name in caught.value.message
    assert said in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_code == 2
    assert "secret" not in str(caught.value)
    assert "with a blank" not in str(caught.value)


@given(st.sampled_from(VARIABLES), st.text(max_size=40))
def test_any_text_is_understood_or_refused(name: str, value: str) -> None:
    """Never another error; and what was understood goes through the settings' document unchanged."""
    try:
        settings = with_environment(SETTINGS, ("https://app.example",), {name: value})
    except UsageError as error:
        assert name in error.message  # noqa: PT017  any other error is the failure
    else:
        assert decode(encode(settings)) == settings


def test_the_children_get_a_digest_of_the_token() -> None:
    """The token itself stands nowhere in what the gateway's processes are told."""
    token = "0123456789abcdef" * 2

    settings = with_environment(SETTINGS, (), {"OLLAMA_ADMIN_TOKEN": token})

    assert settings.admin_digest == sha256(token.encode()).hexdigest()
    assert token.encode() not in encode(settings)


def test_origins_of_the_environment_replace_the_inventorys() -> None:
    """As every other variable does."""
    declared = ("https://a.example",)

    assert with_environment(SETTINGS, declared, {}).origins == declared
    given_too = with_environment(SETTINGS, declared, {"OLLAMA_ORIGINS": "https://b.example, app://*,"})
    assert given_too.origins == ("https://b.example", "app://*")


def test_an_origin_that_ollama_would_not_take_is_named() -> None:
    """With what is wrong with it: Ollama itself does not start."""
    with pytest.raises(UsageError, match="OLLAMA_ORIGINS: 'app://x' has no \\*"):
        with_environment(SETTINGS, (), {"OLLAMA_ORIGINS": "http://a.example,app://x"})
