"""A load generator of one process that fails on any answer that is not 200 or not whole.

    python -m bench.load '{"port": 11434, "connections": 200, "requests": 600, "lines": 100, "every": 0.02, "spread": 2}'

Prints one JSON document: what `Result` says.
"""

import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import cast

import msgspec
import uvloop

from bench import stub
from bench.processes import module

BODY_BYTES = 600
AT = len('"at": ')
# So many connections are made at the same time: a backlog has 4096 places.
CONNECTING = 500
# No load takes as many seconds: an answer that never comes is one that is missing.
LONGEST = 180


@dataclass(frozen=True, slots=True)
class Load:
    """`requests` over `connections`, each of which sends its next one when an answer has ended.

    `lines` and `every` ask for streams; 0 lines is a small answer. The connections are opened over `spread` seconds. With `burst` all
    connections send one request more at the same moment, when everything else is over.
    """

    port: int
    connections: int
    requests: int
    address: str = "127.0.0.1"
    path: str = "/api/generate"
    key: str = ""
    lines: int = 0
    every: float = 0
    hold: str = "0"
    spread: float = 0
    burst: bool = False


@dataclass
class Result:
    """Milliseconds to the first byte of each answer: of the first one of a connection, its making included (`cold`), of the others
    (`warm`), of those sent at one moment (`burst`); and from the backend's write of a line to its arrival (`line`).
    """

    cold: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    burst: list[float] = field(default_factory=list)
    line: list[float] = field(default_factory=list)


def request(load: Load) -> bytes:
    """Its prompt begins with 8 digits, for `%`, so that no two are alike."""
    prompt = f"%08d lines={load.lines} every={load.every} hold={load.hold} "
    said: dict[str, object] = {"model": "stub", "stream": bool(load.lines)}
    name = "input" if load.path == "/api/embed" else "prompt"
    bare = len(json.dumps(said | {name: prompt % 0}))
    body = json.dumps(said | {name: prompt + "y" * (BODY_BYTES - bare)})
    key = f"Authorization: Bearer {load.key}\r\n" if load.key else ""
    return (
        f"POST {load.path} HTTP/1.1\r\nHost: {load.address}:{load.port}\r\n{key}Content-Type: application/json\r\n"
        f"Content-Length: {BODY_BYTES}\r\n\r\n{body}"
    ).encode()


class Client(asyncio.Protocol):
    """One connection that sends its requests one after the other and checks that each answer is whole."""

    transport: asyncio.Transport

    def __init__(self, load: Load, message: bytes, left: list[int], result: Result) -> None:
        self.load, self.message, self.left, self.result = load, message, left, result
        self.times = result.cold
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.answer, self.sent_at = bytearray(), time.monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.next(self.sent_at)

    def next(self, since: float = 0) -> None:
        if not self.left[0]:
            self.finished.set_result(None)
            return
        self.left[0] -= 1
        self.answer.clear()
        self.sent_at = since or time.monotonic()
        self.transport.write(self.message % self.left[0])

    def again(self) -> None:
        """One more, for the burst; `left` must have room for it."""
        self.times = self.result.burst
        self.finished = asyncio.get_running_loop().create_future()
        self.next()

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        if not self.answer:
            self.times.append((now - self.sent_at) * 1000)
            if self.times is self.result.cold:
                self.times = self.result.warm
        self.answer += data
        if not self.answer.startswith(b"HTTP/1.1 200"):
            self.fail(f"not 200: {bytes(self.answer[:400])!r}")
        elif self.load.lines:
            self.lines_came(data, now)
        elif len(self.answer) - self.answer.find(b"\r\n\r\n") - 4 == stub.SMALL_BYTES:
            self.next()

    def lines_came(self, data: bytes, now: float) -> None:
        at = data.rfind(b'"at": ')
        if at >= 0 and len(data) >= at + AT + stub.AT_WIDTH:
            self.result.line.append(now * 1000 - int(data[at + AT : at + AT + stub.AT_WIDTH]) / 1000)
        # A proxy may cut chunks anew, so lines are counted, not bytes; a head may end like a body, but has none behind it.
        head = self.answer.find(b"\r\n\r\n") + 4
        if len(self.answer) > head and self.answer.endswith(b"0\r\n\r\n"):
            lines = self.answer.count(b'"done"')
            if lines == self.load.lines + 1:
                self.next()
            else:
                self.fail(f"{lines} lines instead of {self.load.lines + 1}")

    def fail(self, why: str) -> None:
        if not self.finished.done():
            self.finished.set_exception(RuntimeError(why))
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(f"closed in the middle of an answer: {exc}")


async def run(load: Load) -> Result:
    loop, left, result = asyncio.get_running_loop(), [load.requests], Result()
    message, connecting = request(load), asyncio.Semaphore(CONNECTING)

    async def client(number: int) -> Client:
        await asyncio.sleep(load.spread * number / load.connections)
        async with connecting:
            _, made = await loop.create_connection(lambda: Client(load, message, left, result), load.address, load.port)
        await made.finished
        return made

    clients = await asyncio.gather(*(client(number) for number in range(load.connections)))
    if load.burst:
        await asyncio.sleep(0.1)
        left[0] = len(clients)
        for each in clients:
            each.again()
        await asyncio.gather(*(each.finished for each in clients))
    return result


@contextlib.contextmanager
def loading(load: Load) -> Iterator[Callable[[], Result]]:
    """Runs the load in a process on the core for it; what is given waits for its end. Raises RuntimeError where it fails."""
    words = module("bench.load", msgspec.json.encode(load).decode())
    # Into a file: of more than a pipe holds Python drops the rest where PYTHONUNBUFFERED is set and a signal comes.
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(words, stdout=out, stderr=subprocess.PIPE)

        def result() -> Result:
            _, err = process.communicate(timeout=LONGEST)
            if process.returncode:
                raise RuntimeError(err.decode().strip().splitlines()[-1])
            out.seek(0)
            return msgspec.json.decode(out.read(), type=Result)

        try:
            yield result
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()


def loaded(load: Load) -> Result:
    with loading(load) as result:
        return result()


def quantile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] if values else float("nan")


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(run(msgspec.json.decode(sys.argv[1], type=Load))))))
