"""A backend that costs next to nothing: answers as an Ollama that holds the model `stub`, from bytes made beforehand.

    python -m bench.stub PORT

POST /api/generate with `"stream": false` gets 600 bytes of JSON; with `"stream": true` a chunked NDJSON stream of LINES
lines, one write each, INTERVAL seconds apart.
"""

import asyncio
import json
import sys
from typing import cast

import uvloop

LINES, INTERVAL = 100, 0.002
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


def answer(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


SMALL = answer(json.dumps({"model": "stub", "response": "x" * 545, "done": True}).encode())
LINE = (
    json.dumps(
        {"model": "stub", "created_at": "2026-01-01T00:00:00.000000Z", "response": " word", "done": False}
    ).encode()
    + b"\n"
)
LAST = (
    json.dumps({"model": "stub", "created_at": "2026-01-01T00:00:00.000000Z", "response": "", "done": True}).encode()
    + b"\n"
)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNK = f"{len(LINE):x}\r\n".encode() + LINE + b"\r\n"
STREAM_END = f"{len(LAST):x}\r\n".encode() + LAST + b"\r\n0\r\n\r\n"
FIXED = {
    b"GET /api/version": answer(b'{"version":"0.17.4"}'),
    b"GET /api/tags": answer(json.dumps({"models": [MODEL]}).encode()),
    b"GET /api/ps": answer(json.dumps({"models": [LOADED]}).encode()),
    b"HEAD /": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"GET /": answer(b"Ollama is running"),
}


class Stub(asyncio.Protocol):
    """One connection; requests come one after the other."""

    transport: asyncio.Transport

    def __init__(self) -> None:
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
            line = self.buffer[: self.buffer.find(b" HTTP/")]
            self.buffer = self.buffer[end + 4 + length :]
            self.respond(line, body)

    def respond(self, line: bytes, body: bytes) -> None:
        if line in FIXED:
            self.transport.write(FIXED[line])
        elif b'"stream": true' in body:
            self.transport.write(STREAM_HEAD)
            self.tick(LINES)
        else:
            self.transport.write(SMALL)

    def tick(self, left: int) -> None:
        if self.transport.is_closing():
            return
        if left:
            self.transport.write(CHUNK)
            asyncio.get_running_loop().call_later(INTERVAL, self.tick, left - 1)
        else:
            self.transport.write(STREAM_END)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
