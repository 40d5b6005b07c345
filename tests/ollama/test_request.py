import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.ollama.request import BadBody, ModelRequest, conversation, read_body, runner_options
from olladist.ollama.routes import ROUTES, ModelIn, Route, find

RECORDED: list[dict[str, Any]] = json.loads((Path(__file__).parent / "encoding_json.json").read_text())
WITH_BODY = [route for route in ROUTES if route.model_in is ModelIn.BODY]


def route(path: str, method: str = "POST") -> Route:
    found = find(method, path)
    assert found
    return found


GENERATE, CHAT, OPENAI = route("/api/generate"), route("/api/chat"), route("/v1/chat/completions")

# Keys and values that mean something, in every spelling, and some that do not.
keys = st.sampled_from(
    [
        "model",
        "Model",
        "MODEL",
        "stream",
        "STREAM",
        "ſtream",
        "prompt",
        "Prompt",
        "keep_alive",
        "\u212aeep_alive",
        "x",
        "",
    ]
)
scalars = (
    st.none() | st.booleans() | st.sampled_from(["", "m", "n:1", "0", "0s", "5m"]) | st.sampled_from([0, 1, -1, 0.0])
)
pairs: st.SearchStrategy[list[tuple[str, Any]]] = st.lists(
    st.tuples(keys, scalars | st.just([]) | st.just({"model": "inner"})), max_size=6
)


def written(members: list[tuple[str, Any]], *, escaped: bool = True) -> bytes:
    return b"{%b}" % b",".join(
        json.dumps(key, ensure_ascii=escaped).encode() + b":" + json.dumps(value).encode() for key, value in members
    )


def outcome(body: bytes, where: Route) -> ModelRequest | BadBody:
    try:
        return read_body(body, where)
    except BadBody as problem:
        return problem


def as_go_would(members: list[tuple[str, Any]]) -> tuple[str, bool, bool, bool] | None:
    """The oracle: fields set one after the other, null leaves values and empties pointers; None for a wrong type."""
    fields: dict[str, Any] = {"model": "", "stream": None, "prompt": "", "keep_alive": None}
    for key, value in members:
        name = key.replace("ſ", "s").lower()
        if name == "model" and not isinstance(value, str | None):
            return None
        if name in fields and not (value is None and name in {"model", "prompt"}):
            fields[name] = value
    zero = fields["keep_alive"] in ("0", "0s") or (
        isinstance(fields["keep_alive"], int | float)
        and fields["keep_alive"] is not False
        and fields["keep_alive"] == 0
    )
    stream = fields["stream"] if isinstance(fields["stream"], bool) else True
    empty = fields["prompt"] == "" or fields["prompt"] == []
    return fields["model"], stream, empty and not zero, empty and zero


@given(pairs, st.booleans())
def test_a_body_is_read_as_go_reads_it(members: list[tuple[str, Any]], escaped: bool) -> None:
    """Any case of the keys, any number of them, nulls in between."""
    read = outcome(written(members, escaped=escaped), GENERATE)
    expected = as_go_would(members)

    if expected is not None:
        assert isinstance(read, ModelRequest)
        assert (read.model, read.stream, read.load, read.unload) == expected
    elif isinstance(read, BadBody):  # where a good value of the same spelling follows it passes: Ollama refuses it
        assert "into Go struct field GenerateRequest.model of type string" in read.text


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: repr(case["body"]))
def test_recorded_bodies_give_what_go_gave(case: dict[str, Any]) -> None:
    """Model, stream and emptiness as encoding/json decoded them, and its error where it could not."""
    read, error = outcome(case["body"].encode("latin-1"), GENERATE), case["error"]

    if not error:
        assert isinstance(read, ModelRequest)
        assert read.model == case["model"]
        assert read.stream is (case["stream"] is not False)
        assert (read.load or read.unload) is (case["prompt"] == "")
    elif error.startswith("json: ") and "Go struct field" in error:
        # Go names the first wrong field, we only look at the model; the rest is for Ollama itself to refuse.
        assert isinstance(read, ModelRequest) or "Go struct field GenerateRequest.model" in read.text
    else:
        assert isinstance(read, BadBody)
        assert (read.status, read.text) == (400, "missing request body" if error == "EOF" else error)


@given(st.binary() | pairs.map(written), st.sampled_from(WITH_BODY))
def test_any_bytes_are_read_or_refused(body: bytes, where: Route) -> None:
    """On every route; nothing but BadBody comes out."""
    read = outcome(body, where)

    assert isinstance(read, ModelRequest) or (read.status == 400 and read.text)


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/api/chat", {"model": "m", "messages": [{"role": "user", "content": "hi"}]}, ("m", True, False, False)),
        ("/api/chat", {"model": "m", "messages": [1], "stream": False}, ("m", False, False, False)),
        ("/api/chat", {"model": "m"}, ("m", True, True, False)),
        ("/api/chat", {"model": "m", "messages": [], "keep_alive": 0}, ("m", True, False, True)),
        ("/api/chat", {"model": "m", "messages": None, "keep_alive": "0s"}, ("m", True, False, True)),
        ("/api/chat", {"model": "m", "messages": [], "keep_alive": "5m"}, ("m", True, True, False)),
        ("/api/generate", {"model": "m", "prompt": "x", "keep_alive": 0}, ("m", True, False, False)),
        ("/api/generate", {"model": "m", "prompt": "", "keep_alive": "0h0m"}, ("m", True, False, True)),
        ("/api/generate", {"model": "m", "keep_alive": -1}, ("m", True, True, False)),
        ("/api/generate", {"model": "m", "keep_alive": 0.0}, ("m", True, False, True)),
        ("/api/generate", {"model": "m", "keep_alive": None}, ("m", True, True, False)),
        ("/api/embed", {"model": "m", "input": "", "keep_alive": 0, "stream": True}, ("m", False, False, False)),
        ("/api/show", {"name": "n"}, ("n", False, False, False)),
        ("/api/show", {"name": "n", "model": "m"}, ("m", False, False, False)),
        ("/api/pull", {"name": "n", "model": ""}, ("n", True, False, False)),
        ("/api/copy", {"source": "s", "destination": "d"}, ("s", False, False, False)),
        ("/v1/chat/completions", {"model": "m", "messages": []}, ("m", False, False, False)),
        ("/v1/chat/completions", {"model": "m", "stream": True}, ("m", True, False, False)),
        ("/v1/messages", {"model": "m", "stream": True, "max_tokens": 5}, ("m", True, False, False)),
    ],
)
def test_what_a_request_wants(path: str, body: dict[str, Any], expected: tuple[str, bool, bool, bool]) -> None:
    """(model, stream, load, unload) on each kind of route, in the spelling that clients use."""
    read = read_body(json.dumps(body).encode(), route(path))

    assert (read.model, read.stream, read.load, read.unload) == expected


@pytest.mark.parametrize(
    ("where", "body", "text"),
    [
        (CHAT, b"", "missing request body"),
        (CHAT, b" \r\n", "missing request body"),
        (OPENAI, b"", "EOF"),
        (CHAT, b"{", "unexpected EOF"),
        (CHAT, b'{"model":"no" x', "invalid character 'x' after object key:value pair"),
        (CHAT, b"[1]", "json: cannot unmarshal array into Go value of type api.ChatRequest"),
        (
            OPENAI,
            b'{"model":1}',
            "json: cannot unmarshal number into Go struct field ChatCompletionRequest.model of type string",
        ),
        (
            route("/api/pull"),
            b'{"name":true}',
            "json: cannot unmarshal bool into Go struct field PullRequest.name of type string",
        ),
    ],
)
def test_bad_bodies_are_refused_in_the_words_of_ollama(where: Route, body: bytes, text: str) -> None:
    """Each seen on the wire of a real 0.17.4."""
    with pytest.raises(BadBody) as caught:
        read_body(body, where)

    assert (caught.value.status, caught.value.text) == (400, text)


def test_null_is_an_empty_request() -> None:
    """Go leaves every field as it was."""
    assert read_body(b"null", GENERATE) == ModelRequest(model="", stream=True, load=True)


def test_null_leaves_a_plain_bool_as_it_was() -> None:
    """`stream` is a pointer for Ollama's own routes, a plain bool for OpenAI's."""
    body = b'{"model":"m","stream":true,"stream":null}'

    assert read_body(body, OPENAI).stream is True
    assert read_body(body.replace(b"true", b"false"), CHAT).stream is True


TRANSCRIPTIONS = route("/v1/audio/transcriptions")
FILE = b'Content-Disposition: form-data; name="file"; filename="model"\r\n\r\nRIFF\x00\r\n--xy\r\n'


def form(*parts: bytes) -> bytes:
    return b"".join(b"--xyz\r\n" + part + b"\r\n" for part in parts) + b"--xyz--\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b'Content-Disposition: form-data; name="model"',
        b"content-disposition: form-data; name=model",
        b'Content-Type: text/plain\r\nCONTENT-DISPOSITION:form-data;name="model"; x=y',
    ],
)
@pytest.mark.parametrize("turn", [1, -1])
def test_a_form_names_its_model_in_a_field(head: bytes, turn: int) -> None:
    """Wherever it stands among the fields."""
    parts = [FILE, head + b"\r\n\r\nwhisper:1"]

    assert read_body(form(*parts[::turn]), TRANSCRIPTIONS) == ModelRequest(model="whisper:1", stream=False)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "failed to parse multipart form: multipart: NextPart: EOF"),
        (b'{"model":"whisper"}', "failed to parse multipart form: multipart: NextPart: EOF"),
        (b"--" + b"x" * 100 + b"\r\n", "failed to parse multipart form: multipart: NextPart: EOF"),
        (form(FILE), "model is required"),
        (form(b'Content-Disposition: form-data; name="model"\r\n\r\n'), "model is required"),
        (form(b"Content-Disposition: form-data\r\n\r\nwhisper"), "model is required"),
        (b"--\r\n" * 500_000, "model is required"),
        (b"--\r\n" + b"\r\n\r\n\r\n--\r\n" * 500_000, "model is required"),
    ],
)
def test_a_broken_form_is_refused(body: bytes, text: str) -> None:
    """As later releases of Ollama put it, and soon, however many parts there are."""
    with pytest.raises(BadBody, match=f"^{text}$") as refused:
        read_body(body, TRANSCRIPTIONS)
    assert refused.value.status == 400


@given(st.binary())
def test_any_bytes_are_a_form_or_none(body: bytes) -> None:
    """Nothing but a refusal comes of what is none."""
    for given_body in (body, b"--b\r\n" + body):
        result = outcome(given_body, TRANSCRIPTIONS)
        assert isinstance(result, BadBody) or not result.stream


def test_turns_of_a_conversation_have_one_number() -> None:
    """The second turn sends the first again; another conversation, or none, has another number. The first says that it is."""

    def near(*messages: tuple[str, str], indent: int | None = None) -> tuple[int, bool]:
        said = [{"role": role, "content": text} for role, text in messages]
        request = read_body(json.dumps({"model": "m", "messages": said}, indent=indent).encode(), CHAT)
        return request.near, request.begins

    system = ("system", "You are kind.")
    first, begins = near(system, ("user", "Hello"))

    assert first
    assert begins
    assert near(system, ("user", "Hello"), ("assistant", "Hi"), ("user", "Why?")) == (first, False)
    assert near(system, ("user", "Hello"), indent=1)[1]
    assert near(system, ("user", "Good morning"))[0] != first
    assert near(system) == (0, False)
    assert near(("user", "Hello {you}")) == (near(("user", "Hello {you} there"))[0], False)  # which costs a question


@given(st.binary(max_size=300))
def test_any_bytes_have_a_number(messages: bytes) -> None:
    """Of 56 bits, which fit into every integer on the way."""
    assert 0 <= conversation(b'[{"role":"user","content":"' + messages)[0] < 2**56


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"num_ctx": 8192, "temperature": 0, "main_gpu": 1}, "main_gpu=1,num_ctx=8192"),
        ({"temperature": 0.5}, ""),
        ({}, ""),
        ([], ""),
        ("x", ""),
        (None, ""),
        ({"use_mmap": None}, "use_mmap=null"),
    ],
)
def test_options_of_a_runner_are_told_apart(options: Any, expected: str) -> None:
    """In one order, whatever theirs was; others are nobody's business."""
    body = json.dumps({"model": "m", "messages": [], "options": options})

    assert read_body(body.encode(), CHAT).options == expected


@given(st.binary(max_size=200))
def test_any_bytes_have_runner_options(raw: bytes) -> None:
    """None, as a rule."""
    assert isinstance(runner_options(raw), str)
