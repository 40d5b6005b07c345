"""One Ollama over HTTP, against a server that answers as Ollama does, and worse."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from olladist.errors import HostError
from olladist.host.api import OllamaAPI
from olladist.ssh.runner import Endpoint

TAG = {
    "name": "tiny:latest",
    "model": "tiny:latest",
    "digest": "ab" * 32,
    "size": 7,
    "modified_at": "2026-01-01T00:00:00Z",
}
PROGRESS = [{"status": "pulling manifest"}, {"status": "pulling ab", "total": 9, "completed": 9}, {"status": "success"}]

# method and path to status and body; a list is streamed as NDJSON
ANSWERS: dict[str, tuple[int, Any]] = {
    "GET /api/version": (200, {"version": "0.17.4"}),
    "GET /api/tags": (200, {"models": [TAG]}),
    "GET /api/ps": (200, {"models": None}),
    "POST /api/show": (404, {"error": "model 'x' not found"}),
    "POST /api/generate": (200, {"response": "hello", "done": True, "done_reason": "stop", "eval_count": 3}),
    "POST /api/create": (400, {"error": "invalid digest format"}),
    "POST /api/pull": (200, PROGRESS),
    "DELETE /api/delete": (200, None),
}


class Unix(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@contextmanager
def ollama(path: Path, answers: dict[str, tuple[int, Any]]) -> Iterator[list[tuple[str, dict[str, str], Any]]]:
    """Serves on a unix socket; what it was asked: the line, the headers, the body."""
    asked: list[tuple[str, dict[str, str], Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            line = f"{self.command} {self.path}"
            asked.append((line, dict(self.headers), body))
            status, content = answers.get(line, (404, "404 page not found"))
            if isinstance(content, str):
                data = content.encode()
            elif isinstance(content, list):
                data = b"".join(json.dumps(item).encode() + b"\n" for item in content)
            else:
                data = b"" if content is None else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815  the base class names them

        def address_string(self) -> str:
            return "unix"

        def log_message(self, *words: object) -> None:
            pass

    server = Unix(str(path), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "s"


def api(path: Path) -> OllamaAPI:
    return OllamaAPI(Endpoint(path=str(path)), "gpu1")


async def test_answers_are_values(socket: Path) -> None:
    """Version, models in the store, models in memory, and one whole generated answer."""
    with ollama(socket, ANSWERS) as asked:
        async with api(socket) as client:
            assert await client.version() == "0.17.4"
            (tag,) = await client.tags()
            assert await client.ps() == ()
            generated = await client.generate("tiny", "hi", options={"seed": 1}, keep_alive=0)

    assert (tag.name, tag.digest, tag.size) == ("tiny:latest", "ab" * 32, 7)
    assert (generated.response, generated.done, generated.eval_count) == ("hello", True, 3)
    assert asked[-1][2] == {"model": "tiny", "prompt": "hi", "stream": False, "options": {"seed": 1}, "keep_alive": 0}


async def test_the_host_header_is_one_that_a_loopback_ollama_lets_in(socket: Path) -> None:
    """Any other gets 403 without a word."""
    with ollama(socket, ANSWERS) as asked:
        async with api(socket) as client:
            await client.version()

    assert asked[0][1]["Host"] == "127.0.0.1"


async def test_a_model_that_is_not_there_is_no_error(socket: Path) -> None:
    """show says None, delete says False."""
    with ollama(socket, {**ANSWERS, "DELETE /api/delete": (404, {"error": "model 'x' not found"})}):
        async with api(socket) as client:
            assert await client.show("x") is None
            assert await client.delete("x") is False
    socket.unlink()
    with ollama(socket, ANSWERS):
        async with api(socket) as client:
            assert await client.delete("x") is True


async def test_a_refusal_names_the_host_what_was_asked_and_ollamas_words(socket: Path) -> None:
    """Whatever the status."""
    with ollama(socket, ANSWERS):
        async with api(socket) as client:
            with pytest.raises(HostError) as caught:
                await client.create({"model": "mine", "files": {"a.gguf": "sha256:x"}})

    assert str(caught.value) == "gpu1: Ollama answered 400: invalid digest format (while creating mine)"


async def test_a_pull_is_followed_to_its_end(socket: Path) -> None:
    """Each line as it comes; one that carries an error, or no success at the end, is an error."""
    with ollama(socket, ANSWERS):
        async with api(socket) as client:
            assert [line async for line in client.pull("tiny")] == PROGRESS
    for stream, says in (
        (
            [{"status": "pulling manifest"}, {"error": "pull model manifest: file does not exist"}],
            "file does not exist",
        ),
        ([{"status": "pulling manifest"}], "ended without success"),
        ([7], "cannot be read"),
    ):
        socket.unlink()
        with ollama(socket, {"POST /api/pull": (200, stream)}):
            async with api(socket) as client:
                with pytest.raises(HostError, match=says):
                    _ = [line async for line in client.pull("tiny")]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((200, "<html>"), "what answers is not an Ollama"),
        ((200, {"ver": 1}), "what answers is not an Ollama"),
        ((502, "Bad Gateway"), "Ollama answered 502: Bad Gateway"),
        ((503, None), "Ollama answered 503"),
    ],
)
async def test_another_server_on_the_port_is_told_apart(answer: tuple[int, Any], says: str, socket: Path) -> None:
    """Its answer is no version of Ollama's."""
    with ollama(socket, {"GET /api/version": answer}):
        async with api(socket) as client:
            with pytest.raises(HostError, match=says):
                await client.version()


async def test_nobody_there_is_an_error_with_a_next_step(socket: Path) -> None:
    """No socket at all."""
    async with api(socket) as client:
        with pytest.raises(HostError, match="no answer from Ollama") as caught:
            await client.version()

    assert "olladist status" in caught.value.hint


async def test_waiting_ends_when_the_server_comes_up_or_when_time_is_up(socket: Path) -> None:
    """Polled with a growing pause; the last failure is the error."""
    async with api(socket) as client:
        with pytest.raises(HostError, match="no answer"):
            await client.wait_ready(0.2)
        with ollama(socket, ANSWERS):
            assert await client.wait_ready(10) == "0.17.4"
