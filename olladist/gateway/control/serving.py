"""The application on its two unix sockets: one for workers, one for the operator's own commands."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from olladist.gateway.settings import Settings

# As uvicorn's default: each worker has one connection for each request that is not inference.
_BACKLOG = 2048


async def serve_api(
    app: ASGIApp, settings: Settings, stop: asyncio.Event, ready: Callable[[], None] = lambda: None
) -> None:
    """Serves until `stop` is set; `ready` is called once both sockets answer."""
    paths = (settings.operator_socket, settings.api_socket)
    servers = [_Server(_config(named(app, path)), stop) for path in paths]
    async with asyncio.TaskGroup() as tasks:
        for server, path in zip(servers, paths, strict=True):
            tasks.create_task(server.serve([_listen(Path(path))]))
            await server.listening.wait()
        ready()


def named(app: ASGIApp, path: str) -> ASGIApp:
    """Tells an application which socket a request came in by, as ASGI has it: scope["server"] is its path and None.

    The kernel would say the name that the socket was bound to, which is not the one it has now.
    """

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "server": (path, None)}, receive, send)

    return serve


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=1,
    )


class _Server(uvicorn.Server):
    """uvicorn without its hold on signals, for the process has its own; it ends when `stop` is set, and looks up once a second."""

    def __init__(self, config: uvicorn.Config, stop: asyncio.Event) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self._stop = stop

    async def main_loop(self) -> None:
        """Uvicorn's own wakes up ten times a second to ask whether to end; a second is what its Date header needs."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), 1)
            self.should_exit = self._stop.is_set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(path: Path) -> socket.socket:
    """A socket for this user alone (uvicorn's own would have mode 0666), which has its name once it can be connected to.

    What a predecessor left under that name is replaced.
    """
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(new))
    new.chmod(0o600)
    listening.listen(_BACKLOG)
    new.rename(path)
    return listening
