import asyncio
from collections.abc import Awaitable, Callable

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message

from olladist.gateway.control.telling import Teller, Telling

Tell = Callable[[Teller], Awaitable[None]]


async def told(tell: Tell, *, stream: bool) -> httpx.Response:
    async def page(_request: Request) -> Response:
        return Telling(tell, stream=stream)

    transport = httpx.ASGITransport(Starlette(routes=[Route("/", page)]))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        return await client.get("/")


async def pulls(teller: Teller) -> None:
    await teller.say({"status": "pulling manifest"})
    await teller.say({"status": "writing <manifest>"}, {"status": "success"})


async def test_a_stream_has_its_lines() -> None:
    """One JSON object on each line, as Go writes it."""
    response = await told(pulls, stream=True)

    assert (response.status_code, response.headers["content-type"]) == (200, "application/x-ndjson")
    assert response.content.splitlines(keepends=True) == [
        b'{"status":"pulling manifest"}\n',
        b'{"status":"writing \\u003cmanifest\\u003e"}\n',
        b'{"status":"success"}\n',
    ]


async def test_without_a_stream_the_last_line_is_the_answer() -> None:
    """Nothing goes out before the end."""
    response = await told(pulls, stream=False)

    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.content == b'{"status":"success"}'


async def fails(teller: Teller) -> None:
    await teller.say({"status": "pulling manifest"})
    await teller.say({"error": "file does not exist"})


async def test_an_error_after_the_first_line_is_a_line() -> None:
    """The status has been sent; without a stream it has not."""
    response = await told(fails, stream=True)
    assert (response.status_code, response.text.splitlines()[-1]) == (200, '{"error":"file does not exist"}')

    response = await told(fails, stream=False)
    assert (response.status_code, response.json()) == (500, {"error": "file does not exist"})


async def test_an_error_before_the_first_line_has_a_status() -> None:
    """Also in a stream."""

    async def fail(teller: Teller) -> None:
        await teller.say({"error": "insecure protocol http"})

    response = await told(fail, stream=True)

    assert (response.status_code, response.headers["content-type"]) == (500, "application/json")
    assert response.json() == {"error": "insecure protocol http"}


async def test_another_answer_may_stand_for_all_lines() -> None:
    """What a node has answered passes as it is."""

    async def refuse(teller: Teller) -> None:
        await teller.answer(Response(b"no", 418))

    for stream in (True, False):
        response = await told(refuse, stream=stream)
        assert (response.status_code, response.content) == (418, b"no")


async def test_it_ends_with_its_client() -> None:
    """What is done for a client that has left is cancelled at once, in the middle of a wait."""
    ended = asyncio.Event()

    async def tell(teller: Teller) -> None:
        await teller.say({"status": "pulling manifest"})
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect" if sent else "http.request"}

    await Telling(tell, stream=True)({"type": "http"}, receive, send)

    assert ended.is_set()
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
