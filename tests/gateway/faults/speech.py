"""What a backend says in each protocol, and how a client tells a whole answer from an error and from half an answer."""

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from tests.gateway.edge.harness import JSON_HEAD, LAST_CHUNK, NDJSON_HEAD, SSE_HEAD, Client, chunk, post


@dataclass(frozen=True)
class Speech:
    """One protocol: an answer in lines, and in one piece."""

    path: str
    head: bytes
    line: bytes
    end: bytes
    whole: bytes

    def request(self, *, stream: bool) -> bytes:
        content = [{"role": "user", "content": "hi"}]
        asked = {"model": "tiny", "stream": stream, "messages": content, "prompt": "hi", "input": "hi", "max_tokens": 9}
        return post(self.path, json.dumps(asked).encode())

    def answer(self, *, stream: bool) -> bytes:
        """A healthy host's answer, head included."""
        if not stream:
            return JSON_HEAD % len(self.whole) + self.whole
        return self.head + chunk(self.line) + chunk(self.end) + LAST_CHUNK

    def body(self, *, stream: bool) -> bytes:
        return self.line + self.end if stream else self.whole

    def error(self, body: bytes) -> str:
        """The text of the error that `body` is, or that its last event is; "" for any other."""
        last = body.rstrip().rpartition(b"\n")[2].removeprefix(b"data: ")
        try:
            found = json.loads(last).get("error", "")
        except ValueError:
            return ""
        return str(found["message"] if isinstance(found, dict) else found)


SPEECHES = {
    speech.path: speech
    for speech in (
        Speech(
            "/api/chat",
            NDJSON_HEAD,
            b'{"model":"tiny","message":{"role":"assistant","content":"one"},"done":false}\n',
            b'{"model":"tiny","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}\n',
            b'{"model":"tiny","message":{"role":"assistant","content":"one"},"done":true,"done_reason":"stop"}',
        ),
        Speech(
            "/api/generate",
            NDJSON_HEAD,
            b'{"model":"tiny","response":"one","done":false}\n',
            b'{"model":"tiny","response":"","done":true,"done_reason":"stop"}\n',
            b'{"model":"tiny","response":"one","done":true,"done_reason":"stop"}',
        ),
        Speech(
            "/v1/chat/completions",
            SSE_HEAD,
            b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"tiny",'
            b'"choices":[{"index":0,"delta":{"role":"assistant","content":"one"},"finish_reason":null}]}\n\n',
            b"data: [DONE]\n\n",
            b'{"id":"c","object":"chat.completion","created":1,"model":"tiny",'
            b'"choices":[{"index":0,"message":{"role":"assistant","content":"one"},"finish_reason":"stop"}]}\n',
        ),
        Speech(
            "/v1/responses",
            SSE_HEAD,
            b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":1,'
            b'"item_id":"m","output_index":0,"content_index":0,"delta":"one","logprobs":[]}\n\n',
            b'event: response.completed\ndata: {"type":"response.completed","sequence_number":2,"response":{}}\n\n',
            b'{"id":"r","object":"response","created_at":1,"status":"completed","model":"tiny","output":[]}\n',
        ),
        Speech(
            "/v1/messages",
            SSE_HEAD,
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
            b'"delta":{"type":"text_delta","text":"one"}}\n\n',
            b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
            b'{"id":"m","type":"message","role":"assistant","model":"tiny","content":[{"type":"text","text":"one"}],'
            b'"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":1}}\n',
        ),
    )
}


class End(Enum):
    WHOLE = "whole"  # as its framing says
    CUT = "cut"  # the connection ended before


@dataclass(frozen=True)
class Seen:
    """An answer as a client has it."""

    status: int
    head: bytes
    body: bytes
    end: End


async def see(client: Client, came: Callable[[bytes], None] = lambda body: None) -> Seen:
    """Reads one answer by its framing, or until the connection ends; `came` is told of the body as it grows."""
    async with asyncio.timeout(10):
        try:
            head = await client.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as ended:
            return Seen(0, ended.partial, b"", End.CUT)
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        body, end = await (_of_length(client, int(length[1]), b"", came) if length else _in_chunks(client, came))
    return Seen(int(head.split()[1]), head, body, end)


async def _of_length(client: Client, length: int, before: bytes, came: Callable[[bytes], None]) -> tuple[bytes, End]:
    body = before
    while len(body) < len(before) + length:
        try:
            data = await client.reader.read(len(before) + length - len(body))
        except ConnectionError:
            data = b""
        if not data:
            return body, End.CUT
        body += data
        came(body)
    return body, End.WHOLE


async def _in_chunks(client: Client, came: Callable[[bytes], None]) -> tuple[bytes, End]:
    body = b""
    while True:
        line = await client.reader.readline()
        if not re.fullmatch(rb"[0-9a-f]+\r\n", line):
            return body, End.CUT
        size = int(line, 16)
        body, end = await _of_length(client, size, body, came)
        if end is End.CUT or await client.reader.read(2) != b"\r\n":
            return body, End.CUT
        if not size:
            return body, end
