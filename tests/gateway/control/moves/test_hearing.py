import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from olladist.gateway.control.moves.hearing import Tell, heard, streamed
from olladist.gateway.control.moves.stores import HostStores
from olladist.ssh.connections import Connections
from tests.gateway.control.declarations import declared

SUCCESS = {"status": "success"}


@asynccontextmanager
async def background() -> AsyncIterator[HostStores]:
    with TemporaryDirectory() as folder:
        stores = HostStores(Connections(state=Path(folder)), declared())
        yield stores
        await stores.close()


async def test_what_is_told_is_heard() -> None:
    """In its order, as NDJSON."""

    async def work(tell: Tell) -> None:
        tell({"status": "one"})
        await asyncio.sleep(0)
        tell(SUCCESS)

    async with background() as stores:
        response = streamed(heard(stores, work, lambda: False), {"X-Ollama-Node": "gpu1"})
        body = b"".join([bytes(chunk) async for chunk in response.body_iterator])  # type: ignore[attr-defined]  # a StreamingResponse

    assert body == b'{"status":"one"}\n{"status":"success"}\n'
    assert response.headers["content-type"] == "application/x-ndjson"


@pytest.mark.parametrize("goes_on", [True, False])
async def test_a_client_that_leaves_ends_the_work(goes_on: bool) -> None:
    """Unless it must not be left half done."""
    ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    enough = asyncio.Event()

    async def work(tell: Tell) -> None:
        tell({"status": "begun"})
        try:
            await enough.wait()
        except asyncio.CancelledError:
            ended.set_result(False)
            raise
        ended.set_result(True)

    async with background() as stores:
        told = heard(stores, work, lambda: goes_on)
        await anext(told)
        await told.aclose()
        if goes_on:
            enough.set()

        assert await ended is goes_on


async def test_a_defect_of_ours_ends_in_an_error_line() -> None:
    """No client waits for a line that never comes, or takes silence for success."""

    async def work(tell: Tell) -> None:
        tell({"status": "begun"})
        raise ZeroDivisionError

    async with background() as stores:
        lines = [line async for line in heard(stores, work, lambda: False)]

    assert lines == [{"status": "begun"}, {"error": "the gateway could not finish this; its log says why"}]


async def test_the_end_of_the_process_ends_all_work() -> None:
    """Also what would go on without its client."""

    async def work(tell: Tell) -> None:
        tell({"status": "begun"})
        await asyncio.Event().wait()

    async with background() as stores:
        told = heard(stores, work, lambda: True)
        await anext(told)
        await stores.close()

        assert [line async for line in told] == [{"error": "the gateway could not finish this; its log says why"}]
