"""The HTTP side: pages, bodies, the log."""

from collections.abc import AsyncIterator

import pytest

from tests.sim.conftest import ASK, Ollama


async def test_pages_that_need_no_handler(ollama: Ollama) -> None:
    """The root, an unknown path, a wrong method: plain text as gin writes it."""
    root = await ollama.client.get("/")
    unknown = await ollama.client.get("/nope")
    wrong = await ollama.client.get("/api/chat")

    assert (root.text, root.headers["content-type"]) == ("Ollama is running", "text/plain; charset=utf-8")
    assert (unknown.status_code, unknown.text) == (404, "404 page not found")
    assert (wrong.status_code, wrong.text, wrong.headers["allow"]) == (405, "405 method not allowed", "POST")
    assert (await ollama.client.head("/")).status_code == 200


async def test_bodies_need_no_content_type_and_may_be_chunked(ollama: Ollama) -> None:
    """As with Ollama, what counts are the bytes."""

    async def parts() -> AsyncIterator[bytes]:
        yield b'{"model":"sky",'
        yield b'"stream":false,"prompt":"x"}'

    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = await ollama.client.post("/api/generate", content=parts(), headers=headers)

    assert answer.status_code == 200


async def test_no_body_is_said_to_be_missing(ollama: Ollama) -> None:
    """In the words of each dialect."""
    native = await ollama.client.post("/api/chat")
    openai = await ollama.client.post("/v1/chat/completions")

    assert (native.status_code, native.json()) == (400, {"error": "missing request body"})
    assert (openai.status_code, openai.json()["error"]["message"]) == (400, "EOF")


async def test_a_foreign_host_is_refused(ollama: Ollama) -> None:
    """403 without a body."""
    answer = await ollama.client.get("/api/tags", headers={"Host": "evil.example"})

    assert (answer.status_code, answer.content) == (403, b"")


async def test_an_error_before_the_first_chunk_has_a_status(ollama: Ollama) -> None:
    """The stream has not begun, so the status line can still say it."""
    body = {"model": "sky", "messages": ASK, "format": "xml"}
    answer = await ollama.client.post("/api/chat", json=body)

    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/json")


async def test_every_request_is_logged_as_gin_does(ollama: Ollama, capfd: pytest.CaptureFixture[str]) -> None:
    """Status, time, client, method and path."""
    await ollama.client.get("/api/version")
    line = capfd.readouterr().err.splitlines()[-1]

    assert line.startswith("[GIN] ")
    assert " | 200 | " in line
    assert line.endswith('GET     "/api/version"')
