"""What goes wrong, and what the client sees of it: the tables of docs/reference/failures.md, which the tests execute."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from tests.gateway.edge.harness import BUSY, JSON_HEAD, LAST_CHUNK, Connection, answer, chunk
from tests.gateway.faults.speech import Speech


class Sees(Enum):
    """The words of the documentation for it; tests/gateway/faults/test_faults.py holds what each means."""

    OTHER = "the answer of that host"
    WHOLE = "the whole answer"
    SAME = "this answer, word for word"
    UNAVAILABLE = "503 with `Retry-After`; the text names the host and what was wrong"
    TWO_DIED = "502; the text names both hosts and what was wrong"
    ERROR_LINE = "what came so far, an error in its own protocol, the end"
    CUT = "what came so far; the connection ends before the answer does"


# What the host does with a request in this protocol, streaming or not.
Does = Callable[[Connection, Speech, bool], Awaitable[None]]


async def resets(connection: Connection, _speech: Speech, _stream: bool) -> None:
    connection.reset()


async def closes(connection: Connection, _speech: Speech, _stream: bool) -> None:
    connection.writer.close()


async def hangs(connection: Connection, _speech: Speech, _stream: bool) -> None:
    await connection.ended()


async def half_a_head(connection: Connection, _speech: Speech, _stream: bool) -> None:
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-")
    connection.reset()


async def head_alone(connection: Connection, _speech: Speech, _stream: bool) -> None:
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n")
    await asyncio.sleep(0)
    connection.reset()


async def garbage(connection: Connection, _speech: Speech, _stream: bool) -> None:
    await connection.send(b"SSH-2.0-OpenSSH_9.2p1\r\n")


async def contradicts(connection: Connection, _speech: Speech, _stream: bool) -> None:
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}")


async def says_it_twice(connection: Connection, speech: Speech, stream: bool) -> None:
    await connection.send(speech.answer(stream=stream) * 2)


async def says_too_much(connection: Connection, speech: Speech, stream: bool) -> None:
    await connection.send(speech.answer(stream=stream) + b"and more")


async def dies_saying_503(connection: Connection, _speech: Speech, _stream: bool) -> None:
    await connection.send(b"HTTP/1.1 503 X\r\nContent-Length: 100\r\n\r\nser")
    connection.reset()


def says(status: int, text: bytes) -> Does:
    async def say(connection: Connection, _speech: Speech, _stream: bool) -> None:
        await connection.send(answer(status, text))

    return say


@dataclass(frozen=True)
class Before:
    """A fault before the answer has begun."""

    what: str
    another: Sees  # where another host has the model
    alone: Sees
    does: Does | None  # None: it listens no more
    found_down: bool = False  # by the probes, once it has the request
    hosts: int = 1  # that do this


MISSING = b'{"error":"model \'tiny\' not found"}'
NO_MEMORY = b'{"error":"model requires more system memory (9.1 GiB) than is available (4.0 GiB)"}'
NO_OPTION = b'{"error":"option \\"num_ctx\\" must be of type integer"}'

BEFORE = (
    Before("refuses the connection", Sees.OTHER, Sees.UNAVAILABLE, None),
    Before("resets the connection", Sees.OTHER, Sees.UNAVAILABLE, resets),
    Before("closes the connection", Sees.OTHER, Sees.UNAVAILABLE, closes),
    Before("dies in the middle of the head", Sees.OTHER, Sees.UNAVAILABLE, half_a_head),
    Before("dies behind the head of an answer in one piece", Sees.OTHER, Sees.UNAVAILABLE, head_alone),
    Before("answers what is no HTTP", Sees.OTHER, Sees.UNAVAILABLE, garbage),
    Before("answers with two lengths that contradict each other", Sees.OTHER, Sees.UNAVAILABLE, contradicts),
    Before("sends two answers at once", Sees.OTHER, Sees.UNAVAILABLE, says_it_twice),
    Before("sends more than it has promised", Sees.OTHER, Sees.UNAVAILABLE, says_too_much),
    Before("dies in the middle of a 503", Sees.OTHER, Sees.UNAVAILABLE, dies_saying_503),
    Before("hangs, and its probes find it down", Sees.OTHER, Sees.UNAVAILABLE, hangs, found_down=True),
    Before("answers 404, it has no such model", Sees.OTHER, Sees.SAME, says(404, MISSING)),
    Before("answers 503, its queue is full", Sees.OTHER, Sees.SAME, says(503, BUSY)),
    Before("answers 500, the model does not fit into its memory", Sees.OTHER, Sees.SAME, says(500, NO_MEMORY)),
    Before("answers 500 for another reason", Sees.SAME, Sees.SAME, says(500, NO_OPTION)),
    Before("answers 400", Sees.SAME, Sees.SAME, says(400, NO_OPTION)),
    Before("dies of the request, and so does the next host", Sees.TWO_DIED, Sees.TWO_DIED, resets, hosts=2),
)


async def cut_in_chunk(connection: Connection, speech: Speech, stream: bool) -> None:
    await connection.send(b"40\r\n" + speech.line[:9] if stream else speech.whole[HALF : HALF + 9])
    connection.writer.close()


async def cut_in_line(connection: Connection, speech: Speech, stream: bool) -> None:
    await connection.send(chunk(speech.line[:9]) if stream else speech.whole[HALF : HALF + 9])
    connection.writer.close()


async def bad_chunk(connection: Connection, _speech: Speech, _stream: bool) -> None:
    await connection.send(b"zz\r\n")


async def drips(connection: Connection, speech: Speech, stream: bool) -> None:
    for byte in speech.answer(stream=stream):
        await connection.send(bytes([byte]))


async def pauses(connection: Connection, speech: Speech, stream: bool) -> None:
    await connection.send(chunk(speech.end) + LAST_CHUNK if stream else speech.whole[HALF:])


async def poisons(connection: Connection, _speech: Speech, _stream: bool) -> None:
    await connection.send(JSON_HEAD % 6 + b"poison")


async def well(connection: Connection, speech: Speech, stream: bool) -> None:
    await connection.send(speech.answer(stream=stream))


async def nothing(connection: Connection, speech: Speech, stream: bool) -> None:
    """It has not begun."""


HALF = 20  # bytes of an answer in one piece that come before something happens


async def begins(connection: Connection, speech: Speech, stream: bool) -> None:
    """The head and some of the body, up to a place where a line can follow if this is a stream."""
    if stream:
        await connection.send(speech.head, chunk(speech.line))
    else:
        await connection.send(JSON_HEAD % len(speech.whole), speech.whole[:HALF])


@dataclass(frozen=True)
class After:
    """A fault after some of the answer has reached the client."""

    what: str
    stream: Sees
    plain: Sees | None  # not a stream; None where there is no such fault
    does: Does
    found_down: bool = False  # by the probes, before it does so
    begins: Does = begins


AFTER = (
    After("closes the connection between two lines", Sees.ERROR_LINE, Sees.CUT, closes),
    After("resets the connection between two lines", Sees.ERROR_LINE, Sees.CUT, resets),
    After("closes the connection in the middle of a chunk", Sees.CUT, Sees.CUT, cut_in_chunk),
    After("closes the connection in the middle of a line", Sees.CUT, Sees.CUT, cut_in_line),
    After("sends what is no chunk", Sees.ERROR_LINE, None, bad_chunk),
    After("says nothing for a while, is found down, and goes on", Sees.WHOLE, Sees.WHOLE, pauses, found_down=True),
    After("sends byte by byte", Sees.WHOLE, Sees.WHOLE, drips, begins=nothing),
    After("sends a second answer behind the first", Sees.WHOLE, Sees.WHOLE, poisons, begins=well),
)


def before_table() -> str:
    rows = [f"| {row.what} | {row.another.value} | {row.alone.value} |" for row in BEFORE]
    return "\n".join(["| the host | another host has the model | no other host has it |", "|---|---|---|", *rows])


def after_table() -> str:
    rows = [f"| {row.what} | {row.stream.value} | {row.plain.value if row.plain else ''} |" for row in AFTER]
    return "\n".join(["| the host | of a stream | of an answer in one piece |", "|---|---|---|", *rows])
