"""What the operator's commands ask of a running supervisor, on a unix socket in its run directory.

One line of JSON each way. Who may open the socket is its own user: the directory has mode 0700. A taker gets the listening
sockets as descriptors beside its answer (SCM_RIGHTS, unix(7)); as long as it has not said that it serves, and if its
connection ends before, nothing has changed.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import msgspec
import structlog

from olladist.errors import GatewayError
from olladist.gateway.running import Running

# An order and its answer are short: a page is more than any takes.
_LINE_BYTES = 4096
# 64 workers are the most that --workers takes.
_SOCKETS_MAX = 64
_ANSWER_SECONDS = 10.0

log = structlog.get_logger()

T = TypeVar("T")


class Order(msgspec.Struct, frozen=True):
    """`now`: a stop that does not wait for streams."""

    do: Literal["status", "stop", "take", "serving"]
    now: bool = False


class Process(msgspec.Struct, frozen=True):
    """A child of the supervisor; `pid` 0 while it is started again."""

    name: str
    pid: int


class Answer(msgspec.Struct, frozen=True):
    """`cut`: answers that were ended before their time, after a stop; `problem` says why an order was not carried out."""

    problem: str = ""
    cut: int = 0
    processes: tuple[Process, ...] = ()


class Supervised(Protocol):
    """What a supervisor does for those who ask."""

    @property
    def sockets(self) -> Sequence[socket.socket]: ...

    def processes(self) -> tuple[Process, ...]: ...

    async def stop(self, *, now: bool) -> int:
        """Begins to end; returns when the workers have, with how many answers were cut."""

    def replaced(self) -> None:
        """Another gateway serves our sockets."""


async def take_orders(path: Path, supervised: Supervised) -> None:
    """Until it is cancelled; one order after the other on each connection."""
    loop = asyncio.get_running_loop()
    taking = asyncio.Lock()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        path.unlink(missing_ok=True)
        listening.bind(str(path))
        path.chmod(0o600)
        listening.listen()
        listening.setblocking(False)
        async with asyncio.TaskGroup() as tasks:
            while True:
                connection, _ = await loop.sock_accept(listening)
                tasks.create_task(_serve(connection, supervised, taking))


async def _serve(connection: socket.socket, supervised: Supervised, taking: asyncio.Lock) -> None:
    with connection, contextlib.suppress(OSError, msgspec.MsgspecError):
        while line := await _line(connection):
            match msgspec.json.decode(line, type=Order):
                case Order("status"):
                    await _send(connection, Answer(processes=supervised.processes()))
                case Order("stop", now):
                    await _send(connection, Answer(cut=await supervised.stop(now=now)))
                case Order("take"):
                    await _hand_over(connection, supervised, taking)
                case Order():
                    await _send(connection, Answer(problem="nothing has been taken over"))


async def _hand_over(connection: socket.socket, supervised: Supervised, taking: asyncio.Lock) -> None:
    if taking.locked():
        await _send(connection, Answer(problem="another gateway is taking over already"))
        return
    async with taking:
        sockets = [listening.fileno() for listening in supervised.sockets]
        socket.send_fds(connection, [msgspec.json.encode(Answer()) + b"\n"], sockets)
        log.warning("handing over")
        line = await _line(connection)
        if line and msgspec.json.decode(line, type=Order).do == "serving":
            supervised.replaced()
            await _send(connection, Answer())
        else:
            log.warning("not handed over: who wanted to take over is gone")


async def _line(connection: socket.socket) -> bytes:
    """b"" at the end of the connection, and for a line that is none of ours."""
    loop, got = asyncio.get_running_loop(), b""
    while b"\n" not in got and len(got) < _LINE_BYTES:
        data = await loop.sock_recv(connection, _LINE_BYTES)
        if not data:
            return b""
        got += data
    return got


async def _send(connection: socket.socket, message: Order | Answer) -> None:
    await asyncio.get_running_loop().sock_sendall(connection, msgspec.json.encode(message) + b"\n")


# The asking side.


async def ask(running: Running, order: Order, within: float | None = _ANSWER_SECONDS) -> Answer:
    """Raises GatewayError where it cannot be asked, or says no."""
    return await _asked(running, lambda connection: _exchange(connection, order), within)


async def _exchange(connection: socket.socket, order: Order) -> Answer:
    await _send(connection, order)
    return _read(await _line(connection))


class Taken:
    """The listening sockets of a running gateway, which serves them too until `serve` is called; it goes on if that never is."""

    def __init__(self, connection: socket.socket, sockets: tuple[socket.socket, ...]) -> None:
        self.sockets = sockets
        self._connection = connection

    async def serving(self) -> None:
        """Tells the other that it can end, for we serve; GatewayError where that cannot be told."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await _exchange(self._connection, Order("serving"))
        except (OSError, TimeoutError) as error:
            raise GatewayError(
                f"the gateway that was to be replaced does not listen any more: {error}",
                hint="see `olladist proxy status`, and stop the old one with `olladist proxy stop`",
            ) from error

    def close(self) -> None:
        self._connection.close()


async def take(running: Running) -> Taken:
    """Asks a running gateway for its listening sockets; GatewayError where it does not give them."""

    async def exchange(connection: socket.socket) -> Taken:
        await _send(connection, Order("take"))
        line, descriptors = await _received(connection)
        sockets = tuple(socket.socket(fileno=descriptor) for descriptor in descriptors)
        _read(line)
        return Taken(connection.dup(), sockets)

    return await _asked(running, exchange, _ANSWER_SECONDS)


async def _received(connection: socket.socket) -> tuple[bytes, list[int]]:
    """An answer with descriptors. They come with its first byte, and asyncio cannot receive them itself."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(connection)
    line, descriptors, _, _ = socket.recv_fds(connection, _LINE_BYTES, _SOCKETS_MAX)
    return line, descriptors


async def _asked(running: Running, exchange: Callable[[socket.socket], Awaitable[T]], within: float | None) -> T:
    path = running.settings.supervisor_socket
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.setblocking(False)
            async with asyncio.timeout(within):
                await asyncio.get_running_loop().sock_connect(connection, path)
                return await exchange(connection)
    except (OSError, TimeoutError) as error:
        why = str(error) or "no answer"
        raise GatewayError(
            f"the gateway at {running.url} (pid {running.pid}) cannot be asked: {why}",
            hint=f"if it hangs, end it with `kill {running.pid}`",
        ) from error


def _read(line: bytes) -> Answer:
    if not line:
        raise GatewayError("the gateway has ended instead of answering", hint="`olladist proxy status`")
    answer = msgspec.json.decode(line, type=Answer)
    if answer.problem:
        raise GatewayError(f"the gateway refuses: {answer.problem}", hint="`olladist proxy status` shows what runs")
    return answer
