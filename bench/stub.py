"""Backends that cost next to nothing: each port answers as an Ollama that holds the model `stub`, from bytes made beforehand.

    python -m bench.stub PORT...

What a POST gets stands in its prompt: `lines=N every=S` is a chunked NDJSON stream of N lines, one write each, S seconds apart, and a last
one, each with the time at which it was written (`at`, of the clock that all processes of a machine share); everything else is 600 bytes of
JSON, after `hold=S` seconds where it says so, or after the next GET /go (`hold=go`). GET /times says when those that were held came to this
port, and when they were answered.

One process has all ports: several on one core would wait for each other, and that would be in each latency that is measured.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import uvloop

DIGEST = "a" * 64
DETAILS = {
    "parent_model": "",
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "1B",
    "quantization_level": "F16",
}
MODEL = {
    "name": "stub:latest", "model": "stub:latest", "modified_at": "2026-01-01T00:00:00Z", "size": 1000, "digest": DIGEST, "details": DETAILS,
}  # fmt: skip
LOADED = MODEL | {"expires_at": "2318-01-01T00:00:00Z", "size_vram": 1000, "context_length": 4096}
# What a final chunk says; zeros are filled in with what was measured, for a host whose answers take longer than they say is not believed.
TIMINGS = {
    "done_reason": "stop", "total_duration": 0, "load_duration": 10_000, "prompt_eval_count": 120, "prompt_eval_duration": 20_000,
    "eval_count": 100, "eval_duration": 0,
}  # fmt: skip
SMALL_BYTES = 600
AT_WIDTH = 16


def filled_in(document: dict[str, object]) -> bytes:
    """Its JSON, for `%`: the zeros in it become numbers of one width, so that all have one length."""
    text = json.dumps(document)
    for name in ("total_duration", "eval_duration", "at"):
        text = text.replace(f'"{name}": 0', f'"{name}": %({name}){AT_WIDTH}d')
    return text.encode()


def numbers(begun: float) -> dict[bytes, int]:
    """For a template, at the end of what began then."""
    now = time.monotonic()
    taken = int((now - begun) * 1e9)
    return {b"at": int(now * 1e6), b"eval_duration": taken, b"total_duration": taken + 30_000}


def whole(document: dict[str, object], padding: str) -> bytes:
    """An answer of SMALL_BYTES, for `%`."""
    short = len(filled_in(document | {padding: ""}) % numbers(time.monotonic()))
    body = filled_in(document | {padding: "x" * (SMALL_BYTES - short)})
    return (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {SMALL_BYTES}\r\n\r\n"
    ).encode() + body


def line(response: str, timings: dict[str, object], *, done: bool) -> bytes:
    """A chunk with one line of a stream, for `%`."""
    fields = {"model": "stub", "created_at": "2026-01-01T00:00:00.000000Z", "response": response, "done": done}
    text = filled_in(fields | timings | {"at": 0}) + b"\n"
    return f"{len(text % numbers(time.monotonic())):x}\r\n".encode() + text + b"\r\n"


def answer(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


HELD = whole({"model": "stub", "done": True, **TIMINGS}, "response")
GENERATED = HELD % numbers(time.monotonic())
EMBEDDED = whole(
    {"model": "stub", "embeddings": [[0.1] * 100], "total_duration": 100_000, "prompt_eval_count": 8}, "note"
) % numbers(time.monotonic())
LINE = line(" word", {}, done=False)
LAST = line("", dict(TIMINGS), done=True) + b"0\r\n\r\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
FIXED = {
    b"GET /api/version": answer(b'{"version":"0.17.4"}'),
    b"GET /api/tags": answer(json.dumps({"models": [MODEL]}).encode()),
    b"GET /api/ps": answer(json.dumps({"models": [LOADED]}).encode()),
    b"HEAD /": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"GET /": answer(b"Ollama is running"),
}


def said(body: bytes, name: bytes) -> float:
    """What the prompt says of `name`; 0 where it says nothing."""
    at = body.find(b" " + name + b"=")
    return float(body[at + len(name) + 2 :].split(b" ", 1)[0]) if at >= 0 else 0


@dataclass
class Times:
    """What a port remembers of the requests that it held."""

    came: list[float] = field(default_factory=list)
    went: list[float] = field(default_factory=list)
    held: list[tuple["Stub", float]] = field(default_factory=list)


class Stub(asyncio.Protocol):
    """One connection; requests come one after the other."""

    transport: asyncio.Transport

    def __init__(self, times: Times) -> None:
        self.times = times
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            body = self.buffer[end + 4 : end + 4 + length]
            first = self.buffer[: self.buffer.find(b" HTTP/")]
            self.buffer = self.buffer[end + 4 + length :]
            self.respond(first, body)

    def respond(self, first: bytes, body: bytes) -> None:
        if first in FIXED:
            self.transport.write(FIXED[first])
        elif first == b"GET /times":
            self.transport.write(answer(json.dumps({"came": self.times.came, "went": self.times.went}).encode()))
        elif first == b"GET /go":
            for each, begun in self.times.held:
                each.let_go(begun)
            self.times.held.clear()
            self.transport.write(answer(b""))
        elif lines := said(body, b"lines"):
            self.transport.write(STREAM_HEAD)
            self.tick(int(lines), said(body, b"every"), time.monotonic())
        else:
            self.small(EMBEDDED if first == b"POST /api/embed" else GENERATED, body)

    def small(self, whole: bytes, body: bytes) -> None:
        now = time.monotonic()
        if b" hold=go " in body:
            self.times.came.append(now)
            self.times.held.append((self, now))
        elif hold := said(body, b"hold"):
            self.times.came.append(now)
            asyncio.get_running_loop().call_later(hold, self.let_go, now)
        else:
            self.transport.write(whole)

    def let_go(self, begun: float) -> None:
        self.times.went.append(time.monotonic())
        self.transport.write(HELD % numbers(begun))

    def tick(self, left: int, every: float, begun: float) -> None:
        if self.transport.is_closing():
            return
        self.transport.write((LINE if left else LAST) % numbers(begun))
        if left:
            asyncio.get_running_loop().call_later(every, self.tick, left - 1, every, begun)


async def serve(ports: Sequence[int]) -> None:
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(partial(Stub, Times()), "127.0.0.1", port, backlog=4096) for port in ports]
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    uvloop.run(serve([int(word) for word in sys.argv[1:]]))
