"""Questions over connections that stay open."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest

from olladist.gateway.control.questions import Questions
from olladist.gateway.control.upstreams import Failed
from tests.gateway.control.nodes import CLOSE, HANG, Node, Raw, running, wait_until

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


async def ask(questions: Questions, path: str = "/api/version", within: float = 30) -> bytes:
    return (await questions.get(path, bytes_max=1000, within=within)).body


@asynccontextmanager
async def scripted(*answers: bytes) -> AsyncIterator[tuple[Questions, list[int]]]:
    """A server whose connections answer in turn with these bytes, and close when there are no more; how many questions each has had."""
    connections: list[int] = []
    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        number = len(connections)
        connections.append(0)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            for answer in answers:
                await reader.readuntil(b"\r\n\r\n")
                connections[number] += 1
                writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    questions = Questions(Node(port=server.sockets[0].getsockname()[1]).backend())
    try:
        yield questions, connections
    finally:
        questions.close()
        server.close()
        await asyncio.gather(*(task for task in serving if task is not None))


async def test_one_connection_serves_one_question_after_the_other() -> None:
    """And two at once have two."""
    async with scripted(*[ANSWER] * 10) as (questions, connections):
        for _ in range(3):
            assert await ask(questions) == b"{}"
        assert connections == [3]

        await asyncio.gather(ask(questions), ask(questions))

        assert connections == [4, 1]


async def test_a_connection_that_was_closed_meanwhile_says_nothing_of_the_backend() -> None:
    """Whether that is known before the question is asked or after it, it is asked on a new one."""
    async with scripted(ANSWER) as (questions, connections):
        for _ in range(3):
            assert await ask(questions) == b"{}"

        assert connections == [1, 1, 1]


async def test_one_that_is_closed_over_a_question_has_failed() -> None:
    """On a new connection that is the backend's answer."""
    node = Node({"/api/version": CLOSE})
    async with running(node):
        with pytest.raises(Failed, match="closed the connection without an answer"):
            await ask(Questions(node.backend()))


async def test_an_answer_that_ends_with_its_connection_is_not_asked_again() -> None:
    """The next question has a new one."""
    async with scripted(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}", ANSWER) as (
        questions,
        connections,
    ):
        await ask(questions)
        await ask(questions)

        assert connections == [1, 1]


async def test_what_nobody_has_asked_for_ends_the_connection() -> None:
    """It would be taken for the answer to the next question."""
    async with scripted(ANSWER + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", ANSWER) as (
        questions,
        connections,
    ):
        assert await ask(questions) == b"{}"
        assert await ask(questions) == b"{}"

        assert len(connections) == 2


async def test_silence_is_told_from_an_error() -> None:
    """And a late answer is not the next question's."""
    node = Node({"/late": HANG})
    async with running(node):
        questions = Questions(node.backend())
        with pytest.raises(Failed, match="no answer to /late within") as failed:
            await ask(questions, "/late", within=0.05)
        assert failed.value.silent

        assert b"0.17.4" in await ask(questions)
        questions.close()


async def test_who_is_cancelled_leaves_no_connection_behind() -> None:
    """Its answer may still come."""
    node = Node({"/late": HANG})
    async with running(node):
        questions = Questions(node.backend())
        asking = asyncio.ensure_future(ask(questions, "/late"))
        await wait_until(lambda: node.asked["/late"] == 1, "the question")
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

        assert b"0.17.4" in await ask(questions)
        questions.close()


async def test_nobody_there() -> None:
    """A port where nothing listens is a failure in words."""
    node = Node()
    async with running(node):
        pass
    with pytest.raises(Failed, match="no connection") as failed:
        await ask(Questions(node.backend()))

    assert not failed.value.silent


@pytest.mark.parametrize("name", ["x" * 64, "a..b", "nowhere.invalid"])
async def test_a_name_that_is_none(name: str) -> None:
    """Whatever a resolver says of it."""
    backend = replace(Node(port=1).backend(), address=f"{name}:1")

    with pytest.raises(Failed, match="no connection"):
        await ask(Questions(backend))


async def test_an_answer_that_is_none() -> None:
    """What does not speak HTTP, says so."""
    node = Node({"/api/version": Raw(b"SSH-2.0-OpenSSH_9.2\r\n")})
    async with running(node):
        with pytest.raises(Failed, match="does not speak HTTP"):
            await ask(Questions(node.backend()))
