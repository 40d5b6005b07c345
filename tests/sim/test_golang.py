"""Structs, times and numbers as Go has them."""

import contextlib
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.sim.golang import Malformed, Shape, decode, human_number, in_order, keep_alive, kind_of, local, utc

SHAPE = Shape(
    "Thing", {"name": "string", "count": "int", "stream": "bool", "keep_alive": "api.Duration", "more": "any"}
)


def test_keys_match_in_any_case_and_the_last_one_counts() -> None:
    """What is not in the struct is dropped, and so is null and what follows the first value."""
    body = b'{"NAME":"a","name":"b","other":1,"count":null,"stream":true} rest'

    assert decode(body, SHAPE) == {"name": "b", "stream": True}
    assert decode(b"null", SHAPE) == {}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "EOF"),
        (b"{", "unexpected EOF"),
        (b"[]", "json: cannot unmarshal array into Go value of type api.Thing"),
        (b'{"name":1}', "json: cannot unmarshal number into Go struct field Thing.name of type string"),
        (b'{"count":1.5}', "json: cannot unmarshal number 1.5 into Go struct field Thing.count of type int"),
        (b'{"keep_alive":"soon"}', 'time: invalid duration "soon"'),
        (b'{"keep_alive":"5"}', 'time: missing unit in duration "5"'),
        (b'{"keep_alive":true}', "Unsupported type: 'bool'"),
        (b'{"more":' + b"[" * 20_000 + b"]" * 20_000 + b"}", "invalid character '[' exceeded max depth"),
    ],
)
def test_what_does_not_fit_is_told_in_gos_words(body: bytes, text: str) -> None:
    """The first thing wrong."""
    with pytest.raises(Malformed) as caught:
        decode(body, SHAPE)

    assert str(caught.value) == text
    assert caught.value.empty == (text == "EOF")


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_malformed(body: bytes) -> None:
    """Nothing else comes out of the decoder."""
    with contextlib.suppress(Malformed):
        assert decode(body, SHAPE).keys() <= SHAPE.fields.keys()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(5, 5), (0.5, 0.5), (-1, math.inf), ("5m", 300), ("-1s", math.inf), ("0", 0), (0, 0), ("1h30m", 5400)],
)
def test_keep_alive_takes_seconds_and_durations(value: object, seconds: float) -> None:
    """A negative one is for ever."""
    assert keep_alive(value) == seconds


def test_kinds_are_gos() -> None:
    """The words of encoding/json."""
    values: list[object] = [None, True, 1, 1.5, "", [], {}]

    assert [kind_of(value) for value in values] == ["null", "bool", "number", "number", "string", "array", "object"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(7, "7"), (120_640, "121K"), (999, "999"), (2_000_000, "2M"), (1_235_814_400, "1.2B"), (8_030_000, "8.03M")],
)
def test_numbers_for_people(count: int, text: str) -> None:
    """format.HumanNumber."""
    assert human_number(count) == text


def test_times_have_no_zeros_at_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 3339 with nanoseconds, in UTC or in this machine's zone."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        assert utc(1_795_356_431_740_015_800) == "2026-11-22T14:07:11.7400158Z"
        assert utc(1_795_356_431_000_000_000) == "2026-11-22T14:07:11Z"
        assert local(1_795_356_431_500_000_000) == "2026-11-22T19:37:11.5+05:30"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_maps_come_out_in_order() -> None:
    """At every depth."""
    assert list(in_order({"b": [{"z": 1, "y": 2}], "a": 0})) == ["a", "b"]
    assert list(in_order({"b": [{"z": 1, "y": 2}]})["b"][0]) == ["y", "z"]
