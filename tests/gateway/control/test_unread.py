"""Requests that are answered before they have been read."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.types import Message

from olladist.gateway.control.unread import Unread


def receiving(*messages: Message) -> Callable[[], Awaitable[Message]]:
    left = list(messages)

    async def receive() -> Message:
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    return receive


async def test_the_rest_of_a_request_is_read_before_its_answer_ends() -> None:
    """To its last piece, and no further: after that only the end of the connection can come."""
    pieces = [{"type": "http.request", "body": b"x", "more_body": more} for more in (True, True, False)]
    request = Unread(receiving(*pieces))
    await request.receive()

    await asyncio.wait_for(request.finish(), 1)


async def test_a_request_that_was_read_is_not_waited_for() -> None:
    """Nor one whose client has gone."""
    for message in ({"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}):
        request = Unread(receiving(message))
        await request.receive()

        await asyncio.wait_for(request.finish(), 1)


async def test_who_waits_for_the_client_to_leave_goes_on_waiting() -> None:
    """A stream that watches for that does so while its answer ends."""
    request = Unread(receiving())
    watching = asyncio.create_task(request.receive())
    await asyncio.sleep(0)  # it has begun to wait

    await asyncio.wait_for(request.finish(), 1)
    watching.cancel()
