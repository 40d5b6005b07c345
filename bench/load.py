"""A closed-loop load generator that fails on any answer that is not whole.

    python -m bench.load HOST:PORT CONNECTIONS REQUESTS small|stream

Prints one JSON document: seconds, requests, milliseconds to first byte (p50, p99).
"""

import asyncio
import json
import sys
import time
from typing import cast

import uvloop

from bench import stub

SMALL_BODY = len(stub.SMALL.split(b"\r\n\r\n", 1)[1])


def request(address: str, stream: bool) -> bytes:
    body = json.dumps({"model": "stub", "prompt": "y" * 540, "stream": stream}).encode()
    head = f"POST /api/generate HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Client(asyncio.Protocol):
    """One connection that sends its requests one after the other and checks that each answer is whole."""

    transport: asyncio.Transport

    def __init__(self, message: bytes, stream: bool, left: list[int], times: list[float]) -> None:
        self.message, self.stream, self.left, self.times = message, stream, left, times
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.answer, self.sent_at = bytearray(), 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.next()

    def next(self) -> None:
        if not self.left[0]:
            self.finished.set_result(None)
            self.transport.close()
            return
        self.left[0] -= 1
        self.answer.clear()
        self.sent_at = time.perf_counter()
        self.transport.write(self.message)

    def data_received(self, data: bytes) -> None:
        if not self.answer:
            self.times.append(time.perf_counter() - self.sent_at)
        self.answer += data
        if not self.answer.startswith(b"HTTP/1.1 200"):
            self.fail(f"not 200: {bytes(self.answer[:200])!r}")
        elif self.stream:
            # A proxy may cut chunks anew, so lines are counted, not bytes; a head may end like a body, but has none behind it.
            head = self.answer.find(b"\r\n\r\n") + 4
            if len(self.answer) > head and self.answer.endswith(b"0\r\n\r\n"):
                lines = self.answer.count(b'"done"')
                self.next() if lines == stub.LINES + 1 else self.fail(f"{lines} lines instead of {stub.LINES + 1}")
        elif len(self.answer) - self.answer.find(b"\r\n\r\n") - 4 == SMALL_BODY:
            self.next()

    def fail(self, why: str) -> None:
        if not self.finished.done():
            self.finished.set_exception(RuntimeError(why))
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.finished.done():
            self.finished.set_exception(RuntimeError(f"closed in the middle of an answer: {exc}"))


async def run(address: str, connections: int, requests: int, stream: bool) -> dict[str, float]:
    host, port = address.rsplit(":", 1)
    loop, left, times = asyncio.get_running_loop(), [requests], list[float]()
    message = request(address, stream)
    start = time.perf_counter()
    clients = [
        (await loop.create_connection(lambda: Client(message, stream, left, times), host, int(port)))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(client.finished for client in clients))
    seconds = time.perf_counter() - start
    times.sort()
    return {
        "seconds": seconds,
        "requests": len(times),
        "first_byte_p50_ms": times[len(times) // 2] * 1000,
        "first_byte_p99_ms": times[int(len(times) * 0.99)] * 1000,
    }


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "stream"))))
