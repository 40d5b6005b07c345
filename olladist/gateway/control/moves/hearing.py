"""Work that a client hears about, line by line, for as long as it is there."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeAlias

from starlette.responses import Response, StreamingResponse

from olladist.gateway.control.models.progress import SUCCESS, Line
from olladist.gateway.control.moves.stores import HostStores
from olladist.ollama import framing
from olladist.ollama.routes import NDJSON

Tell: TypeAlias = Callable[[Line], None]
Work: TypeAlias = Callable[[Tell], Awaitable[None]]

# What the last line says where the work ended in a defect of ours.
_BROKEN: Line = {"error": "the gateway could not finish this; its log says why"}


def heard(stores: HostStores, work: Work, goes_on: Callable[[], bool]) -> AsyncGenerator[Line, None]:
    """Begins the work at once; what it tells, the last line a `success` or an `error`.

    Where the client leaves, the work ends, unless `goes_on` says that it must not be left half done.
    """
    told: asyncio.Queue[Line | None] = asyncio.Queue()

    async def run() -> None:
        try:
            await work(told.put_nowait)
        finally:
            told.put_nowait(None)

    return _lines(stores.start(run()), told, goes_on)


async def _lines(
    task: asyncio.Task[None], told: asyncio.Queue[Line | None], goes_on: Callable[[], bool]
) -> AsyncGenerator[Line, None]:
    last: Line = {}
    try:
        while (line := await told.get()) is not None:
            last = line
            yield line
        if not is_last(last):
            yield _BROKEN
    finally:
        if not task.done() and not goes_on():
            task.cancel()


def is_last(line: Line) -> bool:
    return "error" in line or line.get("status") == SUCCESS


def streamed(told: AsyncGenerator[Line, None], headers: dict[str, str] | None = None) -> Response:
    """NDJSON as Ollama streams it."""

    async def encoded() -> AsyncGenerator[bytes, None]:
        try:
            async for line in told:
                yield framing.encode(line) + b"\n"
        finally:
            await told.aclose()

    return StreamingResponse(encoded(), headers={"Content-Type": NDJSON, **(headers or {})})
