"""Answers that are told line by line while hosts are being changed, and end with their client.

As Ollama's streamResponse and waitForStream (server/routes.go): lines as they come, or only the last one; an error is a line of a stream
that has begun, and a status of its own before that.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from olladist.ollama import framing
from olladist.ollama.routes import NDJSON

JSON = "application/json"


class Teller:
    """Takes the lines of one answer. A client that reads slowly makes `say` wait, and with it whoever has something to say."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, stream: bool) -> None:
        self.began = False  # something of the answer is on its way, or all of it
        self._scope, self._receive, self._send = scope, receive, send
        self._stream = stream
        self._last: Mapping[str, Any] = {}

    async def say(self, *lines: Mapping[str, Any]) -> None:
        if not self._stream:
            self._last = lines[-1] if lines else self._last
            return
        for line in lines:
            if "error" in line and not self.began:
                await self.answer(_whole(500, line))
                return
            if not self.began:
                self.began = True
                headers = [(b"content-type", NDJSON.encode())]
                await self._send({"type": "http.response.start", "status": 200, "headers": headers})
            body = framing.encode(line) + b"\n"
            await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def answer(self, response: Response) -> None:
        """Another answer instead of lines, while none has been said."""
        self.began = True
        self._stream = False
        self._last = {}
        await response(self._scope, self._receive, self._send)

    async def pass_on(self, status: int, headers: Mapping[str, str], chunks: AsyncIterator[bytes]) -> None:
        """Another answer, as it comes. Should `chunks` fail, the client sees a connection that ends before its answer does."""
        self.began = True
        self._stream = False
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})
        async for chunk in chunks:
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})

    async def end(self) -> None:
        if self._stream:
            await self._send({"type": "http.response.body", "body": b""})
        elif not self.began:
            await self.answer(_whole(500 if "error" in self._last else 200, self._last))


class Telling(Response):
    """The answer that `tell` gives; it is cancelled when the client leaves."""

    def __init__(self, tell: Callable[[Teller], Awaitable[None]], *, stream: bool) -> None:
        super().__init__()
        self._tell = tell
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        work = asyncio.ensure_future(self._told(Teller(scope, receive, send, stream=self._stream)))
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            gone.cancel()
            await asyncio.wait({work, gone})
        if not work.cancelled():
            work.result()

    async def _told(self, teller: Teller) -> None:
        await self._tell(teller)
        await teller.end()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _whole(status: int, line: Mapping[str, Any]) -> Response:
    return Response(framing.encode(line), status, {"Content-Type": JSON})
