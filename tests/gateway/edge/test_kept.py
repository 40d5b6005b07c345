import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.edge.kept import (
    ANSWER_BYTES_MAX,
    AT_ONCE,
    PER_SECOND,
    REQUEST_BYTES_MAX,
    Allowance,
    Collecting,
    digest,
    is_whole,
)
from olladist.ollama.request import BadBody, read_body
from olladist.ollama.routes import ROUTES
from tests.gateway.edge.harness import LAST_CHUNK, chunk

BY_NAME = {route.name: route for route in ROUTES}


def name_of(route: str, body: bytes, *, key: str = "", said: bytes = b"") -> str:
    return digest(BY_NAME[route], key, read_body(body, BY_NAME[route]), body, said)


@pytest.mark.parametrize(
    ("route", "body", "kept"),
    [
        ("embed", b'{"model":"m","input":"x"}', True),
        ("embeddings", b'{"model":"m","prompt":"x"}', True),
        ("v1/embeddings", b'{"model":"m","input":"x"}', True),
        ("generate", b'{"model":"m","prompt":"x"}', False),
        ("generate", b'{"model":"m","prompt":"x","options":{"temperature":0}}', True),
        ("generate", b'{"model":"m","prompt":"x","options":{"temperature":0.1}}', False),
        ("generate", b'{"model":"m","prompt":"x","options":{"temperature":false}}', False),
        ("generate", b'{"model":"m","prompt":"x","options":{"seed":42,"temperature":1}}', True),
        ("generate", b'{"model":"m","prompt":"x","options":{"seed":null}}', False),
        ("generate", b'{"model":"m","prompt":"x","options":{"temperature":0},"min_p":1}', True),
        ("generate", b'{"MODEL":"m","prompt":"x","options":{"temperature":0}}', True),
        ("generate", b'{"model":"m","prompt":"x","options":[]}', False),
        ("generate", b'{"model":"m","prompt":"x","temperature":0}', False),
        ("generate", b'{"model":"m","prompt":"","options":{"temperature":0}}', False),
        ("chat", b'{"model":"m","messages":[{"role":"user","content":"x"}],"options":{"seed":1}}', True),
        ("chat", b'{"model":"m","messages":[],"options":{"seed":1}}', False),
        ("v1/chat/completions", b'{"model":"m","messages":[],"temperature":0.0}', True),
        ("v1/completions", b'{"model":"m","prompt":"x","seed":1}', True),
        ("v1/messages", b'{"model":"m","messages":[],"temperature":0}', True),
        ("v1/responses", b'{"model":"m","input":"x","temperature":0}', True),
        ("v1/responses", b'{"model":"m","input":"\\"temperature\\": 0"}', False),
        ("v1/images/generations", b'{"model":"m","prompt":"x","seed":1}', False),
    ],
)
def test_what_leaves_nothing_to_chance_may_be_kept(route: str, body: bytes, *, kept: bool) -> None:
    """Vectors always, text with temperature 0 or a seed, each where its own protocol has it; never a mere loading."""
    assert bool(name_of(route, body)) is kept


@pytest.mark.parametrize(("said", "kept"), [(b"keep", True), (b"KEEP", True), (b"no", False), (b"what", False)])
def test_a_client_may_ask_for_it(said: bytes, *, kept: bool) -> None:
    """X-Ollama-Cache overrides the rule both ways; other words change nothing."""
    assert bool(name_of("chat", b'{"model":"m","messages":[{"content":"x"}]}', said=said)) is kept
    assert bool(name_of("embed", b'{"model":"m","input":"x"}', said=said)) is (said != b"no")


SEED = b'{"model":"m","prompt":"x","options":{"seed":1,"num_ctx":8}}'


@pytest.mark.parametrize(
    "same",
    [
        b'{ "options" : {"num_ctx": 8, "seed":1},\n"prompt":"\\u0078","model":"m" }',
        b'{"model":"m","prompt":"x","options":{"seed":1,"num_ctx":8},"keep_alive":"1h"}',
        b'{"model":"m","prompt":"x","options":{"seed":1,"num_ctx":8},"stream":true}',
    ],
)
def test_the_same_request_in_other_words_has_the_same_name(same: bytes) -> None:
    """Order and white space do not count, nor how long the model stays, nor a default that is spelled out."""
    assert name_of("generate", same) == name_of("generate", SEED) != ""


@pytest.mark.parametrize(
    ("route", "other", "key"),
    [
        ("generate", SEED.replace(b'"x"', b'"y"'), ""),
        ("generate", SEED.replace(b'"m"', b'"M"'), ""),
        ("generate", SEED.replace(b"{", b'{"stream":false,', 1), ""),
        ("generate", SEED.replace(b"{", b'{"top_k":1,', 1), ""),
        ("generate", SEED, "alice"),
    ],
)
def test_another_request_has_another_name(route: str, other: bytes, key: str) -> None:
    """A member, the way of answering, or who asks."""
    assert name_of(route, other, key=key) not in {name_of("generate", SEED), ""}


@pytest.mark.parametrize(
    "tricky",
    [
        b'{"model":"m","prompt":"x","options":{"num_predict":1},"options":{"seed":1,"num_ctx":8}}',
        b'{"model":"m","system":"be rude","system":null,"prompt":"x","options":{"seed":1,"num_ctx":8}}',
        b'{"model":"m","Prompt":"y","prompt":"x","options":{"seed":1,"num_ctx":8}}',
        b'{"model":"m","prompt":"x","options":{"\\u017feed":2,"seed":1,"num_ctx":8}}',
        b'{"model":"m","prompt":"x","options":{"seed":1,"num_ctx":1e999}}',
        b'{"model":"m","prompt":"\\ud800","options":{"seed":1,"num_ctx":8}}',
        b'{"model":"m","prompt":"\xff","options":{"seed":1,"num_ctx":8}}',
        SEED + b"{}",
        SEED[:-1] + b" " * REQUEST_BYTES_MAX + b"}",
    ],
)
def test_what_ollama_may_read_otherwise_has_no_name(tricky: bytes) -> None:
    """Nobody can plant an answer under the name of somebody else's request."""
    assert name_of("generate", tricky) == ""


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["model", "prompt", "options", "seed", "x"]), values), st.randoms())
def test_the_order_of_members_never_counts(members: dict[str, object], random: Random) -> None:
    """For any request, and nothing raises."""
    names = list(members)
    random.shuffle(names)
    bodies = [json.dumps(members).encode(), json.dumps({name: members[name] for name in names}, indent=1).encode()]
    try:
        first, second = (name_of("embed", body) for body in bodies)
    except BadBody:
        return
    assert first == second


def collected(pieces: list[bytes], *, chunked: bool) -> tuple[bytes | None, bytes]:
    written: list[bytes] = []
    collecting = Collecting(written.append, pieces[0])
    for piece in pieces[1:]:
        collecting(piece)
    return collecting.body(chunked=chunked), pieces[0] + b"".join(written)


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1), st.integers(1, 50))
def test_an_answer_is_collected_without_its_chunks(lines: list[bytes], size: int) -> None:
    """However it was cut into reads; what is written is untouched."""
    raw = b"".join(map(chunk, lines)) + LAST_CHUNK
    body, written = collected([raw[at : at + size] for at in range(0, len(raw), size)], chunked=True)

    assert body == b"".join(lines)
    assert written == raw


@pytest.mark.parametrize("raw", [chunk(b"{}"), b"zz\r\n", b"5\r\n{}"])
def test_an_answer_without_its_end_is_not_kept(raw: bytes) -> None:
    """Chunks that do not end or make no sense."""
    assert collected([raw], chunked=True)[0] is None


def test_an_answer_that_is_too_large_is_given_up() -> None:
    """It passes, and no memory is held for it."""
    body, written = collected([b"x" * ANSWER_BYTES_MAX, b"y"], chunked=False)

    assert body is None
    assert len(written) == ANSWER_BYTES_MAX + 1
    assert collected([b"x" * ANSWER_BYTES_MAX], chunked=False)[0] is not None
    assert collected([b"x" * 2**19] * 5, chunked=False)[0] is None


@pytest.mark.parametrize(
    ("route", "body", "stream", "whole"),
    [
        ("generate", b'{"done":false}\n{"done":true}\n', True, True),
        ("generate", b'{"done":false}\n', True, False),
        ("chat", b'{"done":false}\n{"error":"x"}\n', True, False),
        ("chat", b'{"message":{},"done":false}', False, False),
        ("chat", b'{"message":{},"done":true}', False, True),
        ("embed", b'{"embeddings":[]}', False, True),
        ("embed", b'{"embeddings":[', False, False),
        ("v1/chat/completions", b"data: {}\n\ndata: [DONE]\n\n", True, True),
        ("v1/chat/completions", b"data: {}\n\n", True, False),
        ("v1/chat/completions", b'{"choices":[]}\n', False, True),
        ("v1/messages", b"event: message_stop\ndata: {}\n\n", True, True),
        ("v1/messages", b"event: ping\ndata: {}\n\n", True, False),
        ("v1/responses", b"event: response.completed\ndata: {}\n\n", True, True),
        ("v1/responses", b"event: response.created\ndata: {}\n\n", True, False),
    ],
)
def test_only_an_answer_that_says_it_is_finished_is_kept(route: str, body: bytes, *, stream: bool, whole: bool) -> None:
    """Ollama gives 200 to streams that failed half-way, and ends those that repeat themselves without a word."""
    assert is_whole(BY_NAME[route], body, stream=stream) is whole


@given(st.lists(st.floats(0, 100)))
def test_in_a_flood_only_some_answers_are_kept(pauses: list[float]) -> None:
    """A few at once, and so many a second in the long run."""
    allowance, now, taken = Allowance(), 0.0, 0
    for pause in pauses:
        now += pause
        while allowance.take(now):
            taken += 1
    assert taken <= AT_ONCE + now * PER_SECOND + 1e-6 * len(pauses)
    assert taken >= min(AT_ONCE, 1.0) * bool(pauses)
