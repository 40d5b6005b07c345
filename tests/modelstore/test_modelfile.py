"""The vectors were checked against Ollama 0.17.4's parser."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.modelstore.modelfile import BadModelfile, parse_modelfile

EVERYTHING = b"""
# a comment
FROM ./model.gguf
adapter ./lora.gguf
PARAMETER temperature 0.7
PARAMETER num_ctx 4096
PARAMETER stop <|end|>
PARAMETER stop "two words"
PARAMETER use_mmap False
PARAMETER mirostat 1
TEMPLATE \"\"\"{{ .System }}
"quoted" {{ .Prompt }}\"\"\"
SYSTEM You are "kind".
LICENSE MIT
LICENSE \"\"\"
Apache
\"\"\"
MESSAGE user Hello: there
MESSAGE assistant "Hi."
REQUIRES v0.14.0
"""


def test_a_modelfile_becomes_the_body_of_a_create_request() -> None:
    """All commands arrive in the fields that `ollama create` sends, with its types."""
    modelfile = parse_modelfile(EVERYTHING)

    assert modelfile.sources == ("./model.gguf",)
    assert modelfile.adapters == ("./lora.gguf",)
    assert modelfile.request == {
        "template": '{{ .System }}\n"quoted" {{ .Prompt }}',
        "system": 'You are "kind".',
        "license": ["MIT", "\nApache\n"],
        "messages": [{"role": "user", "content": "Hello: there"}, {"role": "assistant", "content": "Hi."}],
        "requires": "0.14.0",
        "parameters": {"temperature": 0.7, "num_ctx": 4096, "stop": ["<|end|>", "two words"], "use_mmap": False},
    }


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        (b"plain words  ", "plain words"),
        (b"'single'", "'single'"),
        (b'"one"', "one"),
        (b'""', ""),
        (b'"one\ntwo"', "one\ntwo"),
        (b'"a" b\nc"', 'a" b\nc'),
        (b'"""a""" b\n"""', 'a""" b\n'),
        (b'"""a""""', 'a"'),
        (b'""""""', ""),
        (b'"""tab\there"""  ', "tab\there"),
        (b"dos\r", "dos"),
        ("zero\u200bwidth\u00a0space".encode(), "zerowidthspace"),
        (b"\xff", "\ufffd"),
        (b"   ", ""),
    ],
)
def test_values_are_quoted_as_ollama_reads_them(value: bytes, meaning: str) -> None:
    """Quotes close at the end of a line only, three before one; what does not print is dropped."""
    request = parse_modelfile(b"SYSTEM " + value + b"\nFROM x\nTEMPLATE t").request

    assert request.get("system", "") == meaning
    assert request["template"] == "t"


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        (b"", 1, "no FROM line"),
        (b"# FROM x\n", 1, "no FROM line"),
        (b"FROM x\nFORM y\n", 2, "a command must be one of"),
        (b"FROM x\nFROM\n", 2, "a command must be one of"),
        (b'FROM x\n\nSYSTEM """open\nTEMPLATE t', 3, "never closed"),
        (b'FROM x\nSYSTEM "open', 2, "never closed"),
        (b"FROM x\nMESSAGE robot hi", 2, "the role of a message"),
        (b"FROM x\nPARAMETER num_ctx", 2, "needs a name and a value"),
        (b"FROM x\nPARAMETER num_ctx many", 2, "needs a whole number"),
        (b"FROM x\nPARAMETER num_ctx 1_0", 2, "needs a whole number"),
        (b"FROM x\nPARAMETER temperature nan", 2, "needs a number"),
        (b"FROM x\nPARAMETER temperature 1e99", 2, "too large"),
        (b"FROM x\nPARAMETER use_mmap yes", 2, "true or false"),
        (b"FROM x\nPARAMETER colour red", 2, "unknown parameter 'colour'"),
        (b"FROM x\nREQUIRES soon", 2, "REQUIRES must be a version"),
        (b"FROM x" + b" " * (4 << 20), 1, "not a Modelfile"),
    ],
)
def test_what_ollama_refuses_is_refused_with_its_line(text: bytes, line: int, problem: str) -> None:
    """The message says what is wrong, the error carries the line."""
    with pytest.raises(BadModelfile, match=problem) as refused:
        parse_modelfile(text)

    assert refused.value.line == line


def test_a_byte_order_mark_decides_the_encoding() -> None:
    """UTF-16 files as Windows editors write them, and UTF-8 with a mark, read as plain ones."""
    text = "FROM x\nSYSTEM größe"

    assert parse_modelfile(text.encode("utf-16")) == parse_modelfile(text.encode())
    assert parse_modelfile(text.encode("utf-8-sig")) == parse_modelfile(text.encode())


def test_reading_a_modelfile_of_a_million_lines_takes_linear_time() -> None:
    """A long quoted licence does not make the parser slow."""
    raw = b'FROM x\nLICENSE """' + b'a "\n' * 1_000_000 + b'"""'

    assert len(parse_modelfile(raw).request["license"][0]) == 4_000_000


@given(st.binary(max_size=300) | st.text(alphabet='FROMSYT "\n\t\\#xé\u200b', max_size=200).map(str.encode))
def test_any_bytes_are_a_modelfile_or_refused(raw: bytes) -> None:
    """Nothing but BadModelfile comes out, and what is read can be sent."""
    try:
        modelfile = parse_modelfile(raw)
    except BadModelfile:
        return
    json.dumps(modelfile.request, allow_nan=False)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_number_keeps_its_32_bits(number: float) -> None:
    """What is sent is the same 32-bit float as what was written."""
    parameters = parse_modelfile(f"FROM x\nPARAMETER top_p {number!r}".encode()).request["parameters"]

    assert struct.pack("<f", parameters["top_p"]) == struct.pack("<f", number)
