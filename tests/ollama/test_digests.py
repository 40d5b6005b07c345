import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.ollama.digests import digest_of, parse_digest

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize("text", ["sha256:" + HEX, "sha256-" + HEX, "sha256:" + HEX.upper()])
def test_both_spellings_are_one_digest(text: str) -> None:
    """A colon or a dash, hex digits of either case."""
    assert parse_digest(text) == "sha256:" + HEX


@pytest.mark.parametrize(
    "text", ["", HEX, "sha256:" + HEX[1:], "sha256:" + HEX + "0", "sha512:" + HEX, "sha256:../" + HEX]
)
def test_what_is_no_digest_is_refused(text: str) -> None:
    """The message shows what was given."""
    with pytest.raises(ValueError, match="is not a digest"):
        parse_digest(text)


@given(st.binary())
def test_a_digest_is_the_sha256(content: bytes) -> None:
    """In the one form that parse_digest gives."""
    assert digest_of(content) == parse_digest("sha256-" + hashlib.sha256(content).hexdigest())
