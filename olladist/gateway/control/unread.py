"""Requests that are answered before they have been read.

Each comes on a connection of its own, which ends with the answer. A connection that is closed while something of the request lies
unread is reset (RFC 1122 §4.2.2.13), and a reset may take the end of the answer with it. So the rest is read first.
"""

import asyncio
from contextlib import suppress

from starlette.types import Message, Receive

# A worker passes on what its client sends for as long as there is more; who sends on after this has had time to hear.
WITHIN = 2.0


class Unread:
    """The `receive` of a request; `finish` reads what nobody has read."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = False
        self._waiting = False

    async def receive(self) -> Message:
        self._waiting = True
        try:
            message = await self._receive()
        finally:
            self._waiting = False
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._ended = True
        return message

    async def finish(self) -> None:
        """Ends when the request has, or the client, or after WITHIN seconds."""
        if self._ended or self._waiting:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(WITHIN):
                while not self._ended:
                    await self.receive()
