import asyncio
import hashlib
import json

import pytest
import zstandard

from olladist.gateway.edge.asked import NOTHING, fields_of, read_asked
from olladist.gateway.edge.head import read_request
from olladist.gateway.lease import NO_USAGE, Access, Ask, Grant, Key, Refuse, Usage
from olladist.ollama.request import BadBody
from olladist.ollama.routes import find
from tests.gateway.edge.harness import (
    BUSY,
    JSON_HEAD,
    LAST_CHUNK,
    NDJSON_HEAD,
    PROMPT,
    SSE_HEAD,
    Connection,
    Gateway,
    Script,
    answer,
    chunk,
    post,
    says_who,
    until,
)
from tests.gateway.edge.test_failover import dies, says

ALICE = hashlib.sha256(b"alice-secret").hexdigest()
FINAL = b'{"response":"","done":true,"prompt_eval_count":3,"eval_count":5}\n'
EMBED = b'{"model":"tiny","input":"x"}'
VECTOR = b'{"embeddings":[[0.5]],"prompt_eval_count":1}'


def script(*pieces: bytes) -> Script:
    async def send(connection: Connection, head: bytes, body: bytes) -> None:
        await connection.send(*pieces)

    return send


# Usage.


@pytest.mark.parametrize(
    ("path", "pieces", "usage"),
    [
        ("/api/generate", (NDJSON_HEAD, chunk(b'{"response":"a"}\n'), chunk(FINAL), LAST_CHUNK), Usage(3, 5)),
        ("/api/generate", (JSON_HEAD % len(FINAL) + FINAL,), Usage(3, 5)),
        (
            "/v1/chat/completions",
            (
                SSE_HEAD,
                chunk(b'data: {"choices":[]}\n\n'),
                chunk(b'data: {"usage":{"prompt_tokens":3,"completion_tokens":5}}\n\n'),
                chunk(b"data: [DONE]\n\n"),
                LAST_CHUNK,
            ),
            Usage(3, 5),
        ),
        ("/api/embeddings", (answer(200, b'{"embedding":[1]}'),), Usage(len(PROMPT) // 4, 0, estimated=True)),
        ("/api/generate", (answer(400, b'{"error":"x"}'),), NO_USAGE),
    ],
)
async def test_a_lease_ends_with_what_the_answer_has_cost(
    gate: Gateway, path: str, pieces: tuple[bytes, ...], usage: Usage
) -> None:
    """Its last bytes say so; where they do not it is estimated, and an error costs nothing."""
    await gate.add("gpu1", script(*pieces))
    await gate.joined()
    client = await gate.client()
    client.send(post(path))
    await client.answer()

    await until(lambda: gate.control.dones, "a Done")

    assert gate.control.dones[0].usage == usage


async def test_a_client_that_leaves_has_used_what_came_until_then(gate: Gateway) -> None:
    """Estimated by its lines, so that leaving before the end costs a key as much as staying."""

    async def begins(connection: Connection, head: bytes, body: bytes) -> None:
        await connection.send(NDJSON_HEAD, *[chunk(b'{"response":"a"}\n')] * 8)
        await connection.ended()

    await gate.add("gpu1", begins)
    await gate.joined()
    client = await gate.client()
    client.send(post())
    await client.head()
    await client.exactly(chunk(b'{"response":"a"}\n') * 8)

    client.leave()

    await until(lambda: gate.control.outcomes == ["left"], "the lease ends")
    done = gate.control.dones[0]
    assert done.usage.estimated
    assert done.usage.output_tokens >= 8
    assert done.received == 8 * len(chunk(b'{"response":"a"}\n'))


# What an Ask says.


async def test_an_ask_says_how_long_the_client_waits(gate: Gateway) -> None:
    """X-Ollama-Timeout, in seconds; what is no number is a mistake that is told."""
    await gate.add("gpu1")
    await gate.joined()
    client = await gate.client()
    client.send(post(extra=b"X-Ollama-Timeout: 2.5\r\n") + post() + post(extra=b"X-Ollama-Timeout: soon\r\n"))

    assert await client.answer() == (200, PROMPT)
    assert await client.answer() == (200, PROMPT)
    assert await client.answer() == (
        400,
        b'{"error":"X-Ollama-Timeout: \'soon\' is not a number of seconds"}',
    )
    first, second = (ask.deadline for ask in gate.control.asks)
    assert 0 < first <= 2.5, "less what has passed until it was asked for"
    assert second == 0.0


async def test_a_second_try_does_not_make_the_client_more_patient(gate: Gateway) -> None:
    """What it has waited for the first host is taken from what it waits for the next."""

    async def busy_after_a_moment(connection: Connection, head: bytes, body: bytes) -> None:
        before = asyncio.get_running_loop().time()
        await until(lambda: asyncio.get_running_loop().time() > before + 0.01, "some time passes")
        await connection.send(answer(503, BUSY))

    await gate.add("gpu1", busy_after_a_moment)
    await gate.add("gpu2")
    await gate.joined()
    client = await gate.client()
    client.send(post(extra=b"X-Ollama-Timeout: 2.5\r\n"))

    assert await client.answer() == (200, PROMPT)
    first, second = (ask.deadline for ask in gate.control.asks)
    assert 0 < second < first <= 2.5
    assert second <= 2.49


@pytest.mark.parametrize("value", [b"", b"-1", b"0", b"nan", b"inf", b"1e999", b"5s", b"\xff"])
def test_only_a_time_is_a_timeout(value: bytes) -> None:
    """No endless one, and none that has passed already."""
    head = read_request(b"POST /api/generate HTTP/1.1\r\nHost: x\r\nX-Ollama-Timeout: " + value + b"\r\n\r\n")
    route = find("POST", "/api/generate")
    assert route
    with pytest.raises(BadBody, match="X-Ollama-Timeout"):
        read_asked(fields_of(head), PROMPT, route, None, lambda: True)
    head = read_request(b"POST /api/generate HTTP/1.1\r\nHost: x\r\n\r\n")
    assert read_asked(fields_of(head), PROMPT, route, None, lambda: True)[1] == NOTHING


async def test_a_key_asks_under_its_name_and_for_its_models_only(gate: Gateway) -> None:
    """Another model is refused in the client's dialect before anybody is asked, however its name is spelled."""
    await gate.add("gpu1")
    gate.control.access = Access((Key("alice", ALICE, ("tiny*",)),))
    await gate.joined()
    client = await gate.client()
    shown = b"Authorization: Bearer alice-secret\r\n"

    client.send(post(extra=shown) + post(body=b'{"model":"TINY:latest"}', extra=shown))
    assert await client.answer() == (200, PROMPT)
    assert (await client.answer())[0] == 200
    for model in ("secret", "tiny://registry.ollama.ai/library/secret", "other/tiny"):
        client.send(post("/v1/messages", json.dumps({"model": model}).encode(), shown))
        status, text = await client.answer()
        assert status == 403
        assert json.loads(text)["error"] == {
            "type": "permission_error",
            "message": f"the API key 'alice' may not use the model '{model}'",
        }

    assert [ask.key for ask in gate.control.asks] == ["alice", "alice"]


# Answers that may be kept.


def keeping(ask: Ask) -> Grant:
    return Grant(ask.id, 0, keep=True)


@pytest.mark.parametrize("head", [NDJSON_HEAD, JSON_HEAD])
async def test_a_whole_answer_is_handed_over_to_be_kept(gate: Gateway, head: bytes) -> None:
    """Where the control process wants it: under the digest of its Ask, without chunks, with its type; the client sees no difference."""
    body = FINAL if head == NDJSON_HEAD else FINAL.rstrip()
    pieces = (head, chunk(body), LAST_CHUNK) if head == NDJSON_HEAD else (head % len(body), body)
    await gate.add("gpu1", script(*pieces))
    await gate.joined()
    gate.control.decide = keeping
    client = await gate.client()
    client.send(post(body=b'{"model":"tiny","prompt":"x","options":{"temperature":0}}'))

    assert await client.answer() == (200, body)

    await until(lambda: gate.control.keeps and gate.control.dones, "a Keep and a Done")
    ask, keep = gate.control.asks[0], gate.control.keeps[0]
    assert ask.keep
    assert (keep.cache, keep.key, keep.model, keep.body) == (ask.cache, "", "tiny", body)
    assert keep.content_type == ("application/x-ndjson" if head == NDJSON_HEAD else "application/json; charset=utf-8")
    assert gate.control.outcomes == ["served"]


@pytest.mark.parametrize(
    ("path", "body", "header"),
    [
        ("/api/generate", PROMPT, b""),
        ("/api/embed", EMBED, b"X-Ollama-Cache: no\r\n"),
        (
            "/v1/audio/transcriptions",
            b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\ntiny\r\n--b--\r\n',
            b"",
        ),
    ],
)
async def test_what_must_be_fresh_has_no_digest(gate: Gateway, path: str, body: bytes, header: bytes) -> None:
    """Whether chance has a part in it, or the client forbids it."""
    await gate.add("gpu1")
    await gate.joined()
    client = await gate.client()
    client.send(post(path, body, header))

    assert await client.answer() == (200, body)
    assert (gate.control.asks[0].cache, gate.control.asks[0].keep) == ("", False)


@pytest.mark.parametrize(
    "pieces",
    [
        (answer(400, b'{"error":"x"}'),),
        (NDJSON_HEAD, chunk(b'{"done":false}\n'), LAST_CHUNK),
        (NDJSON_HEAD, chunk(b'{"done":false}\n'), chunk(b'{"error":"x"}\n'), LAST_CHUNK),
        (answer(200, b'{"done":true}' + b" " * (2**20)),),
    ],
)
async def test_an_answer_that_is_not_whole_or_too_large_is_not_kept(gate: Gateway, pieces: tuple[bytes, ...]) -> None:
    """Nor is an error."""
    await gate.add("gpu1", script(*pieces))
    await gate.joined()
    gate.control.decide = keeping
    client = await gate.client()
    client.send(post(body=b'{"model":"tiny","prompt":"x","options":{"seed":1}}'))
    await client.answer()

    await until(lambda: gate.control.dones, "a Done")
    assert not gate.control.keeps


# Fallback.


async def kept_answers(gate: Gateway, kept: Script) -> None:
    """A control process that has an answer kept where no host is left."""
    gate.control.nodes.clear()
    node = await gate.add("cache", kept)
    node.role = "cache"

    def decide(ask: Ask) -> Grant | Refuse:
        if ask.cache and not ask.tried:
            return Grant(ask.id, 0, "cache", "no host with the model is up\n")
        return Refuse(ask.id, 503, "no host is left", 1)

    gate.control.decide = decide


async def test_a_kept_answer_is_given_where_no_host_can(gate: Gateway) -> None:
    """Asked of the control process by digest; the client is told so, and it costs nothing."""
    await kept_answers(gate, script(JSON_HEAD % len(VECTOR) + VECTOR))
    await gate.joined()
    client = await gate.client()
    client.send(post("/api/embed", EMBED))

    head = await client.head()

    await client.exactly(VECTOR)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert (
        b"X-Ollama-Node: cache\r\nX-Ollama-Distributed: true\r\nX-Ollama-Mode: distributed\r\n"
        b"X-Ollama-Fallback: cache\r\nX-Ollama-Fallback-Reason: no host with the model is up\r\n"
    ) in head
    asked, body = gate.control.nodes[0].requests[0]
    digest = gate.control.asks[0].cache.encode()
    assert asked == b"GET /cached/%b HTTP/1.1\r\nHost: olladist\r\nX-Olladist-Internal: cache\r\n\r\n" % digest
    assert body == b""
    await until(lambda: gate.control.outcomes == ["served"], "the lease ends")
    assert gate.control.dones[0].usage == NO_USAGE


@pytest.mark.parametrize("kept", [says(404, b"404 page not found"), says(503, b"x"), dies])
async def test_without_a_kept_answer_there_is_the_reason_for_asking(gate: Gateway, kept: Script) -> None:
    """503 with Retry-After; nobody else is asked, for this was the last resort."""
    await kept_answers(gate, kept)
    await gate.joined()
    client = await gate.client()
    client.send(post("/api/embed", EMBED) + post("/api/embed", EMBED, b"X-Ollama-Cache: no\r\n"))

    head = await client.head()
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 1\r\n" in head
    await client.exactly(b'{"error":"no host with the model is up\\n"}')
    assert await client.answer() == (503, b'{"error":"no host is left"}')
    assert len(gate.control.asks) == 2


async def test_a_held_answer_is_better_than_no_kept_one(gate: Gateway) -> None:
    """The last host was busy and said so in Ollama's words."""
    await gate.add("gpu1", says(503, b'{"error":"server busy"}'))
    cache = await gate.add("cache", says(404, b"404 page not found"))
    cache.role = "cache"
    await gate.joined()
    gate.control.decide = lambda ask: Grant(ask.id, 1, "cache", "all hosts are busy") if ask.tried else Grant(ask.id, 0)
    client = await gate.client()
    client.send(post("/api/embed", EMBED))

    assert await client.answer() == (503, b'{"error":"server busy"}')


async def test_an_answer_of_the_local_ollama_says_why(gate: Gateway) -> None:
    """Granted by the control process with its reason."""
    node = await gate.add("local")
    node.role = "local"
    await gate.joined()
    gate.control.decide = lambda ask: Grant(ask.id, 0, "local", "gpu1 is down")
    client = await gate.client()
    client.send(post())

    head = await client.head()

    assert b"X-Ollama-Fallback: local\r\nX-Ollama-Fallback-Reason: gpu1 is down\r\n" in head


@pytest.mark.parametrize(
    ("mode", "first", "fallback"), [("distributed", "gpu1", b"local"), ("local", "local", b"nodes")]
)
async def test_alone_the_worker_keeps_to_the_order_of_the_mode(
    gate: Gateway, mode: str, first: str, fallback: bytes
) -> None:
    """The other kind serves where the first is gone, and the answer says so; kept answers are out of reach."""
    for name, role in (("cache", "cache"), ("local", "local"), ("gpu1", "node")):
        node = await gate.add(name)
        node.role = role
    gate.control.mode = mode
    await gate.joined()
    await gate.control.stop()
    client = await gate.client()
    client.send(post())
    head = await client.head()
    await client.exactly(PROMPT)
    assert b"X-Ollama-Node: %b\r\n" % first.encode() in head
    assert b"X-Ollama-Mode: %b\r\n" % mode.encode() in head
    assert b"Fallback" not in head

    next(node for node in gate.control.nodes if node.name == first).script = dies
    client.send(post())

    head = await client.head()
    await client.exactly(PROMPT)
    assert b"X-Ollama-Fallback: %b\r\nX-Ollama-Fallback-Reason: the gateway's control" % fallback in head


async def test_standalone_means_no_other_host_at_all(gate: Gateway) -> None:
    """Also for a worker that is alone."""
    node = await gate.add("gpu1")
    gate.control.mode = "standalone"
    await gate.joined()
    await gate.control.stop()
    client = await gate.client()
    client.send(post())

    assert (await client.answer())[0] == 503
    assert not node.requests


# Loading and unloading.


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/generate", b'{"model":"tiny","keep_alive":0}'),
        ("/api/chat", b'{"model":"tiny","messages":[],"keep_alive":"0s"}'),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
async def test_unloading_is_the_control_process_to_do(gate: Gateway, path: str, body: bytes, *, chunked: bool) -> None:
    """It alone knows where the model is loaded: it gets the request whole, and no host is leased."""
    node = await gate.add("gpu1")
    api = await gate.serve_api(says_who)
    await gate.joined()
    client = await gate.client()
    request = post(path, body)
    if chunked:
        head = b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % path.encode()
        request = head + chunk(body[:9]) + chunk(body[9:]) + LAST_CHUNK
    client.send(request + post())

    assert await client.answer() == (200, body)
    assert await client.answer() == (200, PROMPT)

    assert [got for _, got in api.requests] == [body]
    assert api.requests[0][0].startswith(f"POST {path} HTTP/1.1\r\n".encode())
    assert len(node.requests) == 1


async def test_loading_is_an_ordinary_lease(gate: Gateway) -> None:
    """One object comes back, whether or not a stream was asked for, and it costs no tokens."""
    loaded = b'{"model":"tiny","response":"","done":true,"done_reason":"load"}'
    await gate.add("gpu1", says(200, loaded))
    await gate.joined()
    client = await gate.client()
    client.send(post(body=b'{"model":"tiny"}') + post("/api/chat", b'{"model":"tiny","messages":[]}'))

    assert await client.answer() == (200, loaded)
    assert await client.answer() == (200, loaded)

    await until(lambda: len(gate.control.dones) == 2, "both leases end")
    assert {done.usage for done in gate.control.dones} == {NO_USAGE}


# Forms, packed bodies.


async def test_a_form_reaches_a_backend_untouched(gate: Gateway) -> None:
    """The model is one of its fields; a broken form needs no backend."""
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\x00\xff\r\n'
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\ntiny\r\n--b--\r\n'
    )
    node = await gate.add("gpu1")
    await gate.joined()
    client = await gate.client()
    kind = b"Content-Type: multipart/form-data; boundary=b\r\n"
    client.send(post("/v1/audio/transcriptions", body, kind) + post("/v1/audio/transcriptions", body[:90], kind))

    assert await client.answer() == (200, body)
    status, text = await client.answer()
    assert status == 400
    assert json.loads(text)["error"]["type"] == "invalid_request_error"
    assert [ask.model for ask in gate.control.asks] == ["tiny"]
    assert len(node.requests) == 1


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/chat/completions", "/v1/messages", "/v1/embeddings"])
async def test_a_packed_body_is_read_where_some_ollama_reads_it(gate: Gateway, path: str) -> None:
    """It passes as it is: whether this backend can read it is for it to say. Several frames are one body."""
    packed = zstandard.compress(PROMPT[:9]) + zstandard.compress(PROMPT[9:])
    node = await gate.add("gpu1")
    await gate.joined()
    client = await gate.client()
    client.send(post(path, packed, b"Content-Encoding: zstd\r\n"))

    assert await client.answer() == (200, packed)
    assert gate.control.asks[0].model == "tiny"
    assert b"\r\nContent-Encoding: zstd\r\n" in node.requests[0][0]


async def test_no_ollama_reads_packed_bodies_on_its_own_routes(gate: Gateway) -> None:
    """The answer is that of its JSON decoder."""
    await gate.add("gpu1")
    await gate.joined()
    client = await gate.client()
    client.send(post("/api/chat", zstandard.compress(PROMPT), b"Content-Encoding: zstd\r\n"))

    assert await client.answer() == (400, b'{"error":"invalid character \'(\' looking for beginning of value"}')


def bomb(window_log: int) -> bytes:
    """A frame of some hundred bytes that asks its reader for a window of 2**window_log bytes."""
    parameters = zstandard.ZstdCompressionParameters(window_log=window_log, write_content_size=False)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return packer.compress(bytes(1000)) + packer.flush()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (zstandard.compress(bytes(100 * 2**20)), "http: request body too large"),
        (bomb(27), "invalid character '('"),
        (b"no zstd at all", "invalid character 'o'"),
        (zstandard.compress(PROMPT)[:-4], "unexpected EOF"),
        (b"", "EOF"),
    ],
)
async def test_a_packed_body_can_ask_for_little(gate: Gateway, body: bytes, said: str) -> None:
    """Neither for the room of what it unpacks to, nor for the window that it claims to need; one that is cut short is no body."""
    await gate.add("gpu1")
    await gate.joined()
    client = await gate.client()
    client.send(post("/v1/responses", body, b"Content-Encoding: zstd\r\n"))

    status, text = await client.answer()

    assert status == 400
    assert json.loads(text)["error"]["message"].startswith(said)
    assert not gate.control.asks
