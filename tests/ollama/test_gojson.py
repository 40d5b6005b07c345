"""encoding_json.json was written by Go 1.26's encoding/json itself: Decoder.Decode into a struct, and its error."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.ollama.gojson import Member, SyntaxProblem, fold, kind, members, quote, string

RECORDED: list[dict[str, Any]] = json.loads((Path(__file__).parent / "encoding_json.json").read_text())
SYNTAX_ERRORS = [case for case in RECORDED if case["error"] and not case["error"].startswith("json: ")]
VALID = [case for case in RECORDED if not case["error"] or case["error"].startswith("json: ")]

values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@pytest.mark.parametrize("case", SYNTAX_ERRORS, ids=lambda case: repr(case["body"]))
def test_syntax_errors_have_the_text_of_go(case: dict[str, Any]) -> None:
    """Every byte that Go does not expect is named as Go names it."""
    with pytest.raises(SyntaxProblem) as caught:
        members(case["body"].encode("latin-1"))

    assert str(caught.value) == case["error"]


@pytest.mark.parametrize("case", VALID, ids=lambda case: repr(case["body"]))
def test_what_go_takes_is_taken(case: dict[str, Any]) -> None:
    """Trailing data, keys in other cases, and broken surrogates are no errors."""
    members(case["body"].encode("latin-1"))


@given(st.dictionaries(st.text(), values), st.sampled_from([None, 1]), st.booleans(), st.text())
def test_members_are_those_that_json_reads(
    document: dict[str, Any], indent: int | None, escaped: bool, rest: str
) -> None:
    """json.loads is the oracle, for any layout, and for any data that follow."""
    body = json.dumps(document, indent=indent, ensure_ascii=escaped).encode()

    found = members(body + b"}" + rest.encode())

    assert isinstance(found, list)
    assert {member.key: json.loads(member.value) for member in found} == document


@given(st.binary())
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """Nothing but SyntaxProblem comes out."""
    try:
        found = members(body)
    except SyntaxProblem:
        return

    assert isinstance(found, list | str)


@given(values.map(json.dumps), st.integers(0, 1000), st.integers(0, 255))
def test_one_wrong_byte_is_read_or_refused(text: str, at: int, byte: int) -> None:
    """What Python's decoder takes, NaN aside, is taken here too."""
    body = bytearray(b'{"a":' + text.encode() + b"}")
    body[at % len(body)] = byte
    try:
        json.loads(body.decode(), parse_constant=float.fromhex)
        valid = True
    except ValueError:
        valid = False

    try:
        members(bytes(body))
    except SyntaxProblem as problem:
        assert not valid, problem  # noqa: PT017  which of both must happen is computed


def test_duplicates_are_all_there() -> None:
    """In the order of the body, with the keys unescaped."""
    assert members(b'{"a": 1 ,"\\u0061":[ ]}') == [Member("a", b"1"), Member("a", b"[ ]")]


def test_nesting_goes_as_deep_as_in_go() -> None:
    """10 000 levels (one is the outermost object), and no more."""
    assert members(b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}")
    with pytest.raises(SyntaxProblem, match="exceeded max depth"):
        members(b'{"a":' + b"[" * 10_001 + b"]" * 10_001 + b"}")


@pytest.mark.parametrize("item", [b"[],", b"{},", b'{"a":[]},'])
def test_a_hostile_body_is_given_up(item: bytes) -> None:
    """Millions of brackets do not hold a worker for long; a million numbers are read."""
    with pytest.raises(SyntaxProblem, match="too many values"):
        members(b'{"a":[' + item * 1_000_000 + b"0]}")

    assert members(b'{"a":[' + b"123," * 1_000_000 + b"0]}")


def test_kinds_are_those_of_go() -> None:
    """As in `cannot unmarshal array into …`."""
    assert [kind(v) for v in (b"{}", b"[]", b'""', b"true", b"false", b"null", b"-1")] == [
        "object",
        "array",
        "string",
        "bool",
        "bool",
        "null",
        "number",
    ]


def test_keys_fold_as_unicode_folds_them() -> None:
    """The long s and the Kelvin sign are letters of ours; sharp s is not two of them."""
    assert fold("ſTREAM") == "stream"
    assert fold("\u212aeep_alive") == "keep_alive"
    assert fold("meßages") != "messages"


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("no", '"no"'),
        ('a"b\\', '"a\\"b\\\\"'),
        ("\n\t\x00\x7f", '"\\n\\t\\x00\\x7f"'),
        ("é日", '"é日"'),
        ("\u00a0\u2028", '"\\u00a0\\u2028"'),
    ],
)
def test_quoting_is_that_of_go(text: str, quoted: str) -> None:
    """strconv.Quote: what can be printed stays."""
    assert quote(text) == quoted


def test_strings_lose_what_is_no_unicode() -> None:
    """Pairs of surrogates are one character, a lone one and bytes that are no UTF-8 become U+FFFD."""
    assert string(b'"\\ud83d\\ude00\\ud800"') == "😀\ufffd"
    assert string(b'"\xff"') == "\ufffd"
