"""Clients that judge every answer, against a simulated Ollama on a real socket."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn

from olladist.demo.clients import Tally, _ask, _busiest, load, streamed_chat
from olladist.errors import OlladistError
from olladist.sim import gguf
from olladist.sim.inference import Server
from olladist.sim.runners import Runners
from olladist.sim.server import App
from olladist.sim.settings import Settings
from olladist.sim.store import Store

SENTENCE = "One two three four five."


class Backend:
    """A simulated Ollama with the model "m" that can be ended abruptly."""

    def __init__(self, folder: Path, pace: float) -> None:
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        settings = Settings("127.0.0.1", 0, folder, parallel=4, tokens_per_second=pace, load_rate=0)
        server = Server(settings, Store(folder), Runners(settings))
        config = uvicorn.Config(
            App(server, loopback=True), lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=0
        )
        self.running = uvicorn.Server(config)
        self.task = asyncio.create_task(self.running.serve(sockets=[self.listener]))

    async def end(self, name: str = "") -> None:
        self.running.should_exit = True
        await self.task
        self.listener.close()


@asynccontextmanager
async def backend(folder: Path, pace: float = 0) -> AsyncIterator[Backend]:
    made = Backend(folder, pace)
    gguf.write(folder / "m.gguf", SENTENCE)
    content = (folder / "m.gguf").read_bytes()
    async with httpx.AsyncClient(base_url=made.url) as client:
        wrong = await client.post(f"/api/blobs/sha256:{'0' * 64}", content=content)
        digest = wrong.json()["error"].rpartition("got ")[2].strip('"')
        await client.post("/api/create", json={"model": "m", "files": {"m.gguf": digest}, "stream": False})
    try:
        yield made
    finally:
        if not made.task.done():
            await made.end()


async def nothing(name: str) -> None:
    """No host is killed."""


async def test_a_chat_is_shown_as_it_streams(tmp_path: Path) -> None:
    """Through the package that knows nothing of us, word by word."""
    shown: list[str] = []
    async with backend(tmp_path) as made:
        client, text = await streamed_chat(made.url, "m", shown.append)

    assert client == "the unmodified `ollama` Python client"
    assert "".join(shown) == text == f" {SENTENCE}"
    assert len(shown) > 4


async def test_a_chat_without_an_answer_is_an_error(tmp_path: Path) -> None:
    """That names the model, whatever the client package raises."""
    async with backend(tmp_path) as made:
        with pytest.raises(OlladistError, match=r"the chat with nope failed: .*not found"):
            await streamed_chat(made.url, "nope", lambda _: None)


async def test_right_answers_are_counted_as_served(tmp_path: Path) -> None:
    """Also those that were asked for after the moment of the kill."""
    async with backend(tmp_path) as made:
        tally = await load(made.url, {"m": SENTENCE}, nothing, seconds=0.9)

    assert tally.served == tally.total > 0
    assert 0 < tally.served_after <= tally.served


async def test_wrong_words_are_no_success(tmp_path: Path) -> None:
    """Every answer is compared with what the model was made to say."""
    async with backend(tmp_path) as made:
        tally = await load(made.url, {"m": "Something else."}, nothing, seconds=0.1)

    assert (tally.served, tally.cut, tally.failed) == (0, 0, [])
    assert set(tally.wrong) == {f" {SENTENCE}"}


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nX-Ollama-Node: gpu1\r\nTransfer-Encoding: chunked\r\n\r\n"
WORD = b'{"message":{"content":" One"},"done":false}\n'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.mark.parametrize(
    ("answer", "cut", "failed"),
    [
        (b"", 0, 1),
        (HEAD, 1, 0),
        (HEAD + chunk(WORD), 1, 0),
        (HEAD + chunk(WORD) + chunk(b'{"error":"gpu1 has gone"}\n') + b"0\r\n\r\n", 1, 0),
        (HEAD + b"0\r\n\r\n", 1, 0),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\n{}", 0, 1),
    ],
)
async def test_what_was_cut_is_told_from_what_never_began(answer: bytes, cut: int, failed: int) -> None:
    """Once the head of an answer has come it had begun to stream; before, it has failed."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}]}")
        writer.write(answer)
        await writer.drain()
        writer.close()

    tally = Tally()
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with httpx.AsyncClient(base_url=url) as client:
            await _ask(client, "m", SENTENCE, tally)

    assert (tally.cut, len(tally.failed), tally.served) == (cut, failed, 0)
    assert not +tally.streaming


async def test_unknown_models_are_failures(tmp_path: Path) -> None:
    """With the status and what was said."""
    async with backend(tmp_path) as made:
        tally = await load(made.url, {"nope": SENTENCE}, nothing, seconds=0.1)

    assert tally.total == len(tally.failed)
    assert tally.failed[0] == """404 {"error":"model 'nope' not found"}"""


@pytest.mark.parametrize(
    ("streaming", "nodes", "victim"), [({"b": 2, "a": 1}, {}, "b"), ({}, {"a:1": 5}, "a"), ({}, {}, "")]
)
def test_the_victim_is_the_busiest(streaming: dict[str, int], nodes: dict[str, int], victim: str) -> None:
    """The host that streams most, else the one that has served most."""
    tally = Tally()
    tally.streaming.update(streaming)
    tally.nodes.update(nodes)

    assert _busiest(tally) == victim
