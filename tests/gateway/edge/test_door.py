import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from olladist.gateway.access import digest_of
from olladist.gateway.lease import Access, Key
from tests.gateway.edge.harness import Client, Gateway, gateway, post, says_who, until

SECRET, OTHER = "sk-a-key-of-some-length", "sk-another-key-of-length"
KEYS = Access((Key("team", digest_of(SECRET.encode())), Key("small", digest_of(OTHER.encode()), ("other-model",))))
TOKEN = "the token of the administrator"


@pytest.fixture
async def local(run_dir: Path) -> AsyncIterator[Gateway]:
    """A worker that is told it listens on loopback, and has an administrator."""
    async with gateway(run_dir, listen_host="127.0.0.1", admin_digest=digest_of(TOKEN.encode())) as running:
        await running.add("gpu1")
        await running.serve_api(says_who)
        await running.joined()
        yield running


async def said(gate: Gateway, request: bytes) -> tuple[list[str], bytes]:
    """Lines of the head but for those of ours, and the body, of one answer on a connection of its own."""
    client = await gate.client()
    client.send(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
    head, _, body = (await client.rest()).partition(b"\r\n\r\n")
    lines = [line for line in head.decode().split("\r\n") if not line.startswith(("X-Ollama-", "Connection"))]
    return lines, body


def ask(
    path: str = "/api/version", *, method: str = "GET", host: str = "127.0.0.1:19741", origin: str = "", extra: str = ""
) -> bytes:
    page = f"Origin: {origin}\r\n" if origin else ""
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{page}{extra}\r\n".encode()


PREFLIGHT = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n"


async def test_a_preflight_is_answered_as_ollama_does(local: Gateway) -> None:
    """Without a key and without the control process: a browser asks before it may send anything."""
    local.control.access = KEYS
    lines, body = await said(local, ask("/api/chat", method="OPTIONS", origin="http://localhost:3000", extra=PREFLIGHT))

    assert body == b""
    assert sorted(line for line in lines if not line.startswith("Access-Control-Allow-Headers")) == [
        "Access-Control-Allow-Methods: GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS",
        "Access-Control-Allow-Origin: http://localhost:3000",
        "Access-Control-Max-Age: 43200",
        "Allow: POST",
        "HTTP/1.1 204 No Content",
        "Vary: Access-Control-Request-Headers",
        "Vary: Access-Control-Request-Method",
        "Vary: Origin",
    ]


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (ask(origin="http://evil.example"), ["HTTP/1.1 403 Forbidden", "Content-Length: 0"]),
        (
            ask("/api/chat", method="OPTIONS", origin="http://evil.example", extra=PREFLIGHT),
            ["HTTP/1.1 403 Forbidden", "Allow: POST", "Content-Length: 0"],
        ),
        (ask(host="evil.com"), ["HTTP/1.1 403 Forbidden", "Content-Length: 0"]),
        (
            ask(host="evil.com", origin="http://localhost"),
            [
                "HTTP/1.1 403 Forbidden",
                "Access-Control-Allow-Origin: http://localhost",
                "Vary: Origin",
                "Content-Length: 0",
            ],
        ),
        (ask(host="evil.com", origin="http://evil.example"), ["HTTP/1.1 403 Forbidden", "Content-Length: 0"]),
        (ask("/nope", host="evil.com"), ["HTTP/1.1 403 Forbidden", "Content-Length: 0"]),
        (ask("/nope", method="OPTIONS", host="evil.com"), ["HTTP/1.1 403 Forbidden", "Content-Length: 0"]),
        (ask("/api/chat", method="OPTIONS", host="localhost"), ["HTTP/1.1 204 No Content", "Allow: POST"]),
        (ask("/nope", method="OPTIONS", host="box.local"), ["HTTP/1.1 204 No Content"]),
        (
            ask("/api/chat", method="OPTIONS", host="localhost", origin="http://localhost"),
            ["HTTP/1.1 204 No Content", "Allow: POST"],
        ),
        (ask("*", method="OPTIONS"), ["HTTP/1.1 200 OK", "Content-Length: 0"]),
        (
            ask("/api/version/", host="evil.com", origin="http://evil.example"),
            [
                "HTTP/1.1 301 Moved Permanently",
                "Content-Type: text/html; charset=utf-8",
                "Location: /api/version",
                "Content-Length: 47",
            ],
        ),
        (
            ask("//api/chat", method="POST"),
            ["HTTP/1.1 307 Temporary Redirect", "Location: /api/chat", "Content-Length: 0"],
        ),
    ],
)
async def test_the_door_answers_as_ollama_does(local: Gateway, request_: bytes, answer: list[str]) -> None:
    """Line by line as 0.17.4 on 127.0.0.1 has answered the same bytes: paths before origins before hosts."""
    lines, body = await said(local, request_)

    assert lines == answer
    assert body in {b"", b'<a href="/api/version">Moved Permanently</a>.\n\n'}


async def test_answers_tell_a_browser_that_it_may_read_them(local: Gateway) -> None:
    """Those of a backend, of the control process, and our own errors."""
    page = "http://localhost:3000"
    inference = post(extra=f"Origin: {page}\r\n".encode()).replace(b"Host: gateway", b"Host: localhost")
    malformed = inference.replace(b'{"model"', b'["model"')
    for request in (inference, ask(origin=page), malformed):
        lines, _ = await said(local, request)
        assert f"Access-Control-Allow-Origin: {page}" in lines
        assert "Vary: Origin" in lines


async def test_beyond_loopback_any_name_will_do(gate: Gateway) -> None:
    """As in Ollama: whoever listens to the network is called many things. Origins are judged all the same."""
    await gate.serve_api(says_who)

    assert (await said(gate, ask(host="ollama.example.com")))[0][0] == "HTTP/1.1 200 OK"
    assert (await said(gate, ask(origin="http://evil.example")))[0][0] == "HTTP/1.1 403 Forbidden"


async def test_nobody_comes_in_before_it_is_said_who_may(run_dir: Path) -> None:
    """A worker that has never heard from its control process answers 503; who asks whether we live is answered."""
    async with gateway(run_dir) as gate:
        gate.edge.worker.leases.access = None
        await gate.serve_api(says_who)

        lines, body = await said(gate, ask("/v1/models"))
        assert lines[0] == "HTTP/1.1 503 Service Unavailable"
        assert "Retry-After: 1" in lines
        assert json.loads(body)["error"]["message"] == "the gateway is starting, please try again"
        assert (await said(gate, ask("/healthz")))[0][0] == "HTTP/1.1 200 OK"


async def keyed(gate: Gateway) -> str:
    """From here on keys are needed; the base URL."""
    gate.control.access = KEYS
    gate.control.push()
    client = await gate.client()
    while True:  # until the worker has heard it
        client.send(ask("/api/tags", host="localhost"))
        head = await client.head()
        if head.startswith(b"HTTP/1.1 401"):
            break
    return f"http://127.0.0.1:{gate.port}"


async def test_keys_open_and_their_absence_closes(local: Gateway) -> None:
    """A 401 in the client's dialect with WWW-Authenticate; with a key the answer, whichever way it is shown."""
    base = await keyed(local)
    body = b'{"model":"tiny","prompt":"hi"}'
    async with httpx.AsyncClient(base_url=base) as client:
        for path in ("/api/generate", "/api/show", "/nowhere"):
            refused = await client.post(path, content=body)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
            assert "an API key is needed" in refused.json()["error"]
        openai = await client.post("/v1/chat/completions", content=body, headers={"Authorization": "Bearer wrong"})
        assert (openai.status_code, openai.json()["error"]["code"]) == (401, "invalid_api_key")
        anthropic = await client.post("/v1/messages", content=body, headers={"X-Api-Key": "wrong"})
        assert (anthropic.status_code, anthropic.json()["error"]["type"]) == (401, "authentication_error")

        for headers in (
            {"Authorization": f"Bearer {SECRET}"},
            {"X-Api-Key": SECRET},
            {"Authorization": f"Bearer {TOKEN}"},
        ):
            assert (await client.post("/api/generate", content=body, headers=headers)).content == body
        assert (await client.post(f"/key/{SECRET}/api/generate", content=body)).content == body
        assert (await client.head("/")).status_code == 200
    assert [ask_.key for ask_ in local.control.asks[-4:]] == ["team", "team", "", "team"]
    await until(lambda: local.counted("unauthorized") >= 6, "they are counted")


async def test_the_control_process_is_told_the_name_and_never_the_key(local: Gateway) -> None:
    """Wherever the key was: header fields and path arrive without it. The admin token does arrive."""
    base = await keyed(local)
    local.api.requests.clear()
    async with httpx.AsyncClient(base_url=base) as client:
        await client.get("/api/tags", headers={"Authorization": f"Bearer {SECRET}", "X-Olladist-Key": "boss"})
        await client.get(f"/key/{SECRET}/api/tags?x=1", headers={"X-Api-Key": OTHER})
        await client.get("/api/tags", headers={"Authorization": f"Bearer {TOKEN}"})
        await client.get("/admin/stats", headers={"Authorization": f"Bearer {SECRET}"})
        await client.get("/", headers={"X-Olladist-Key": "boss"})
    heads = [head.decode() for head, _ in local.api.requests]

    assert ["X-Olladist-Key: team" in head for head in heads] == [True, True, False, False, False]
    assert ["Authorization" in head for head in heads] == [False, False, True, True, False]
    assert heads[1].startswith("GET /api/tags?x=1 HTTP/1.1\r\n")
    assert all("boss" not in head and OTHER not in head for head in heads)
    assert all(SECRET not in head for head in (*heads[:3], heads[4]))


async def test_a_redirect_keeps_the_key_that_stood_in_the_path(local: Gateway) -> None:
    """So that a client which follows it is let in again."""
    base = await keyed(local)
    async with httpx.AsyncClient(base_url=base, follow_redirects=True) as client:
        answer = await client.get(f"/key/{SECRET}//api/tags/")

    assert answer.status_code == 200
    assert [str(hop.headers["location"]) for hop in answer.history] == [
        f"/key/{SECRET}/api/tags/",
        f"/key/{SECRET}/api/tags",
    ]


async def test_a_request_that_is_turned_away_leaves_nothing_of_itself(local: Gateway) -> None:
    """Its body is not taken for a request, and where it had none the connection goes on."""
    await keyed(local)
    client = await local.client()
    client.send(ask("/api/tags", host="localhost") * 2)
    assert [(await client.answer())[0] for _ in range(2)] == [401, 401]

    client.send(post(body=ask("/healthz", host="localhost")).replace(b"gateway", b"localhost") * 2)
    got = await client.rest()
    assert got.count(b"HTTP/1.1 ") == 1
    assert got.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b"Connection: close\r\n" in got


async def test_keys_may_be_taken_away(local: Gateway) -> None:
    """The next request on the same connection is judged by the new ones."""
    await keyed(local)
    client = await local.client()
    shown = ask("/api/tags", host="localhost", extra=f"X-Api-Key: {SECRET}\r\n")
    client.send(shown)
    assert (await client.answer())[0] == 200

    local.control.access = Access(KEYS.keys[1:])
    local.control.push()
    while (await _status(client, shown)) == 200:
        pass
    assert await _status(client, shown) == 401


async def _status(client: Client, request: bytes) -> int:
    client.send(request)
    return (await client.answer())[0]
