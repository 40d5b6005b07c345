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
TIMINGS = {
    "done_reason": "stop", "total_duration": 2_100_000_000, "load_duration": 40_000_000, "prompt_eval_count": 120,
    "prompt_eval_duration": 60_000_000, "eval_count": 100, "eval_duration": 2_000_000_000,
}  # fmt: skip
SMALL_BYTES = 600


def answer(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def padded(document: dict[str, object], key: str) -> bytes:
    short = len(json.dumps(document | {key: ""}))
    return json.dumps(document | {key: "x" * (SMALL_BYTES - short)}).encode()


def chunk(line: bytes) -> bytes:
    return f"{len(line):x}\r\n".encode() + line + b"\r\n"


def line(response: str, done: bool, timings: dict[str, object]) -> bytes:
    """One of a stream, a %d in it for the microseconds of its time, of which there are 16 digits."""
    fields = {"model": "stub", "created_at": "2026-01-01T00:00:00.000000Z", "response": response, "done": done}
    text = json.dumps(fields | timings)[:-1] + f', "at": {1:016d}}}\n'
    return chunk(text.encode()).replace(f"{1:016d}".encode(), b"%016d")


GENERATED = answer(padded({"model": "stub", "done": True, **TIMINGS}, "response"))
EMBEDDED = answer(
    padded({"model": "stub", "embeddings": [[0.1] * 100], "total_duration": 14_000_000, "prompt_eval_count": 8}, "note")
)
LINE = line(" word", False, {})
LAST = line("", True, dict(TIMINGS)) + b"0\r\n\r\n"
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
    held: list["Stub"] = field(default_factory=list)


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
            for each in self.times.held:
                each.let_go()
            self.times.held.clear()
            self.transport.write(answer(b""))
        elif lines := said(body, b"lines"):
            self.transport.write(STREAM_HEAD)
            self.tick(int(lines), said(body, b"every"))
        else:
            self.small(EMBEDDED if first == b"POST /api/embed" else GENERATED, body)

    def small(self, whole: bytes, body: bytes) -> None:
        if b" hold=go " in body:
            self.times.came.append(time.monotonic())
            self.times.held.append(self)
        elif hold := said(body, b"hold"):
            self.times.came.append(time.monotonic())
            asyncio.get_running_loop().call_later(hold, self.let_go)
        else:
            self.transport.write(whole)

    def let_go(self) -> None:
        self.times.went.append(time.monotonic())
        self.transport.write(GENERATED)

    def tick(self, left: int, every: float) -> None:
        if self.transport.is_closing():
            return
        at = time.monotonic_ns() // 1000
        if left:
            self.transport.write(LINE % at)
            asyncio.get_running_loop().call_later(every, self.tick, left - 1, every)
        else:
            self.transport.write(LAST % at)


async def serve(ports: Sequence[int]) -> None:
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(partial(Stub, Times()), "127.0.0.1", port, backlog=4096) for port in ports]
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    uvloop.run(serve([int(word) for word in sys.argv[1:]]))
