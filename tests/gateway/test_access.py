import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.access import digest_of, matches, may_use
from olladist.gateway.lease import Key


@pytest.mark.parametrize(
    ("shape", "model", "opens"),
    [
        ("tiny", "tiny", True),
        ("tiny", "tiny:latest", True),
        ("tiny", "registry.ollama.ai/library/TINY:latest", True),
        ("TINY", "tiny", True),
        ("tiny", "tiny:8b", False),
        ("tiny:*", "tiny:8b", True),
        ("tiny:*", "tiny", True),
        ("llama*", "llama3.2:3b", True),
        ("llama*", "llamafan/anything", False),
        ("llama*", "hf.co/llama/x", False),
        ("r*", "tiny", False),
        ("team/*", "team/tiny:q4", True),
        ("team/*", "team/a/b", False),
        ("team/*", "other.host/team/tiny", False),
        ("hf.co/*/*", "hf.co/user/model:Q4", True),
        ("registry.ollama.ai/library/tiny:*", "tiny", True),
        ("registry.ollama.ai/*", "team/tiny", True),
        ("*", "hf.co/user/model:Q4", True),
        ("*:3b", "llama3.2:3b", True),
        ("[ab]*", "b", True),
        ("*", "", False),
        ("*", "../../etc", False),
        ("*", "a b", False),
    ],
)
def test_patterns_mean_names_as_they_are_shown(shape: str, model: str, *, opens: bool) -> None:
    """Whatever the spelling; and nothing outside Ollama's library unless it is asked for."""
    assert matches(shape, model) is opens


def test_without_patterns_every_model_is_open() -> None:
    """And without a key, for then there is none to hold a name against."""
    assert may_use(None, "anything")
    assert may_use(Key("a", ""), "anything")
    assert may_use(Key("a", "", ("x", "tiny")), "tiny")
    assert not may_use(Key("a", "", ("x", "y")), "tiny")


@given(st.text(max_size=30), st.text(max_size=60))
def test_no_text_is_too_odd(shape: str, model: str) -> None:
    """Patterns come from a file and names from clients: each pair has an answer."""
    assert matches(shape, model) in {True, False}


def test_digests_are_those_of_sha256sum() -> None:
    """So that an operator can make one with `printf %s KEY | sha256sum`."""
    assert digest_of(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
