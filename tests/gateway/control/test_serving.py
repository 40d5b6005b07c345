"""The application's sockets, before real HTTP clients."""

import asyncio
import stat
from pathlib import Path

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from olladist.gateway.control.caller import caller
from olladist.gateway.control.serving import serve_api
from olladist.gateway.lease import Key
from olladist.gateway.settings import Settings


async def test_who_comes_by_the_operators_socket_is_the_operator(run_dir: Path) -> None:
    """Whoever comes by the workers' socket is not, whatever they send; both sockets are for the gateway's own user alone."""
    settings = Settings(str(run_dir), "inventory.toml")
    keys = {"team": Key("team", "0" * 64)}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        who = caller(Request(scope, receive), settings, keys)
        await JSONResponse({"operator": who.operator, "administrates": who.may_administrate})(scope, receive, send)

    ready, stop = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve_api(app, settings, stop, ready.set))
        await ready.wait()
        said = {}
        for path in (settings.api_socket, settings.operator_socket):
            assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
            async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=path)) as client:
                answer = await client.get("http://operator/x", headers={"Host": settings.operator_socket})
                said[path] = answer.json()
        stop.set()

    assert said == {
        settings.api_socket: {"operator": False, "administrates": False},
        settings.operator_socket: {"operator": True, "administrates": True},
    }
