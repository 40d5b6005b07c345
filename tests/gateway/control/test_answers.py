import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from olladist.gateway.control.answers import ROWS_MAX, BadAnswer, Row, read_date, read_loaded, read_tags, read_version

DIGEST = "a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72"
TAG = {
    "name": "Llama3.2:3b",
    "model": "Llama3.2:3b",
    "modified_at": "2024-05-04T14:56:49.277302595-07:00",
    "size": 2019393189,
    "digest": DIGEST,
    "details": {"format": "gguf", "families": ["llama"]},
    "something_new": [1],
}
LOADED = {**TAG, "expires_at": "2318-01-01T00:00:00.1Z", "size_vram": 5, "context_length": 4096}


def tags(*rows: object) -> bytes:
    return json.dumps({"models": rows}).encode()


def test_a_version_is_read() -> None:
    """The version is the text that stands there."""
    assert read_version(b'{"version":"0.33.0-rc2"}') == "0.33.0-rc2"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"version":5}',
        b'{"version":""}',
        b'{"version":"' + b"9" * 99 + b'"}',
        b'{"version":"\\n"}',
    ],
)
def test_no_version_is_no_ollama(raw: bytes) -> None:
    """Anything else is refused with a reason."""
    with pytest.raises(BadAnswer, match=r"JSON|version"):
        read_version(raw)


def test_rows_keep_every_field() -> None:
    """A row is found by its normalised name and stays as it came, unknown fields included."""
    (row,) = read_tags(tags(TAG))

    assert row.key == "registry.ollama.ai/library/llama3.2:3b"
    assert row.digest == DIGEST
    assert row.time == pytest.approx(1714859809.277302)
    assert row.fields == TAG


def test_an_empty_listing_has_no_rows() -> None:
    """An empty list, a nil slice of Go and a missing list all mean: no models."""
    assert read_tags(b'{"models":[]}') == read_tags(b'{"models":null}') == read_tags(b"{}") == ()


def test_times_far_away_are_times() -> None:
    """For ever, the year 1 and the past are all valid ends of a keep-alive."""
    for time in ("2318-01-01T00:00:00.1Z", "0001-01-01T00:00:00Z", "2020-01-01T00:00:00+14:00"):
        assert len(read_loaded(tags({**LOADED, "expires_at": time}))) == 1


def test_names_that_no_request_can_ask_for_are_left_out() -> None:
    """A row with an invalid name does not spoil the others."""
    assert [row.fields["name"] for row in read_tags(tags({**TAG, "name": "../etc"}, TAG))] == ["Llama3.2:3b"]


def test_one_name_is_one_row() -> None:
    """Of two spellings of one name the first counts."""
    assert len(read_tags(tags(TAG, {**TAG, "name": "llama3.2:3B"}))) == 1


@pytest.mark.parametrize(
    "row",
    [
        5,
        {},
        {**TAG, "name": None},
        {**TAG, "digest": "abc"},
        {**TAG, "digest": "a" * 20 + "\n"},
        {**TAG, "size": "big"},
        {**TAG, "modified_at": "yesterday"},
        {**TAG, "modified_at": "2024-05-04T14:56:49"},
    ],
)
def test_garbage_in_a_row_is_refused(row: object) -> None:
    """A row that is not what Ollama writes makes the listing useless, with a reason."""
    with pytest.raises(BadAnswer, match="lists a model"):
        read_tags(tags(row))


def test_too_many_rows_are_refused() -> None:
    """The number of rows is limited."""
    with pytest.raises(BadAnswer, match="at most 10000"):
        read_tags(b'{"models":[' + b"{}," * ROWS_MAX + b"{}]}")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
broken_rows = st.dictionaries(st.sampled_from(list(LOADED)), json_values).map(lambda damage: {**LOADED, **damage})


@given(st.binary(max_size=200))
@example(b"[" * 100_000)
@example(b'{"models":' * 50_000)
@example(b'{"version":1e999}')
def test_any_bytes_are_an_answer_or_a_bad_answer(raw: bytes) -> None:
    """Whatever bytes come, the outcome is a value or BadAnswer."""
    for read in (read_version, read_tags, read_loaded):
        try:
            read(raw)
        except BadAnswer:
            continue


@given(st.lists(broken_rows, max_size=3))
def test_any_damage_to_rows_is_rows_or_a_bad_answer(rows: list[dict[str, Any]]) -> None:
    """Rows with any field replaced by any JSON value are read or refused, never anything else."""
    try:
        read = read_loaded(tags(*rows))
    except BadAnswer:
        return
    assert all(isinstance(row, Row) for row in read)


@given(st.text(max_size=60))
def test_a_date_is_one_or_none(header: str) -> None:
    """Whatever a host sends."""
    date = read_date(header)
    assert date is None or math.isfinite(date)


def test_the_clock_of_a_host_is_in_its_date_header() -> None:
    """As HTTP writes it."""
    assert read_date("Sun, 06 Nov 1994 08:49:37 GMT") == 784111777.0
    assert read_date("") is None
