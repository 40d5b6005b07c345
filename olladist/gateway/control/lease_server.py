"""The control process's end of lease.sock: workers' messages in, grants and tables out."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from pathlib import Path
from typing import cast

import msgspec
import structlog

from olladist.gateway.control.dispatcher import Dispatcher
from olladist.gateway.control.observer import Observer
from olladist.gateway.control.queue import Preloading
from olladist.gateway.control.reserve import PATIENCE_SECONDS
from olladist.gateway.control.roster import Change, Seen
from olladist.gateway.lease import (
    MESSAGE_BYTES_MAX,
    Access,
    Ask,
    Done,
    First,
    Grant,
    Hello,
    Keep,
    Recall,
    Recalled,
    Refuse,
    Table,
    Tally,
    ToControl,
    Unpacker,
    Used,
    pack,
)
from olladist.inventory.model import Strategy
from olladist.scheduling.health import State

log = structlog.get_logger()

# A table is at most 2 MB, so ten a second to eight workers are no load; and a worker that places alone on a table 100 ms old
# is no worse off than by the 2 s between probes.
TABLE_EVERY = 0.1
# How Ollama answers for a model that it has not got, or whose name is none (ollama/refusal.py).
NOBODYS = frozenset({400, 404, 500})
# What a client waits at most while backends are asked again whether they have got a model that none has listed.
LOOK_AGAIN = 1.0
# How often it is looked whether those who wait have waited too long.
TICK = 1.0


_RECALL = pack(Recall())


class LeaseServer:
    """Serves the workers of one gateway; `look_again` asks the backends for their models and takes LOOK_AGAIN at most.

    A model that nobody has listed may have come since the last listing, so its Ask waits for `look_again` before it is refused.
    `unload` asks a node to let go of models, and ends when it has, or will not; `preload` to load one, and says whether it has.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        look_again: Callable[[], Awaitable[None]],
        observer: Observer | None = None,
        unload: Callable[[int, tuple[str, ...]], Awaitable[None]] | None = None,
        preload: Callable[[Preloading], Awaitable[bool]] | None = None,
    ) -> None:
        self.dispatcher = dispatcher
        dispatcher.answered = self._answer_later
        dispatcher.recall = self._recall
        dispatcher.recall_one = self._recall_one
        self._unload = unload
        self._preload = preload
        if preload is not None:
            dispatcher.queue.preload = self._begin_preload
        self._asking_nodes: set[asyncio.Task[None]] = set()
        self.observer = observer or Observer(dispatcher.roster)
        self.workers: dict[int, Worker] = {}
        self._look_again = look_again
        self._connections = 0
        self._waiting: dict[tuple[int, int], asyncio.Task[None]] = {}
        self._answered = asyncio.Event()  # a recall, or there is nobody more to answer
        self._stale = asyncio.Event()  # the workers' tables are
        self._revision = 0
        self._table = b""  # empty when it has to be made anew
        self._listed: frozenset[int] = frozenset()  # the backends in it
        self._access = pack(Access())
        self.keep: Callable[[Keep], None] = lambda _: None  # what becomes of an answer that a worker hands over
        dispatcher.roster.listeners.append(self._changed)
        dispatcher.roster.told.append(self.new_table)

    async def run(self, path: Path, listening: Callable[[], None] = lambda: None) -> None:
        """Serves `path` until it is cancelled; a socket that a predecessor left there is replaced."""
        loop = asyncio.get_running_loop()
        with suppress(FileNotFoundError):
            path.unlink()
        server = await loop.create_unix_server(self._connect, str(path))
        try:
            path.chmod(0o600)
            listening()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._push_tables())
                tasks.create_task(self._tick())
        finally:
            server.close()
            for worker in tuple(self.workers.values()):
                worker.close()
            for task in (*self._waiting.values(), *self._asking_nodes):
                task.cancel()

    def set_access(self, access: Access) -> None:
        """Tells the workers who may come in, before they get their first table and now."""
        self._access = pack(access)
        for worker in tuple(self.workers.values()):
            if worker.hello:
                worker.send(self._access)

    async def idle_back(self) -> None:
        """Calls back the leases that lie idle in workers, and ends when they are free: who looks then sees only what runs."""
        self.dispatcher.call_back()
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while self.dispatcher.reserve.is_called:
                    self._answered.clear()
                    await self._answered.wait()

    def received(self, worker: "Worker", message: ToControl) -> None:
        """Raises ValueError for what a worker may not send."""
        match message:
            case Ask():
                self._ask(worker, message)
            case Done():
                if waiting := self._waiting.pop((worker.number, message.id), None):
                    waiting.cancel()
                self.observer.done(worker.number, message)
                self.dispatcher.done(worker.number, message)
            case Used():
                self.observer.used(worker.number, message)
                self.dispatcher.used(worker.number, message)
            case Recalled():
                self.dispatcher.recalled(worker.number)
                self._answered.set()
            case First():
                self.dispatcher.first(worker.number, message)
            case Tally():
                self.observer.counted(worker.hello.worker if worker.hello else -1, message.counts)
            case Keep():
                self.keep(message)
            case Hello():
                self.dispatcher.hello(worker.number, message)
                self.observer.hello(worker.number, message)
                worker.send(self._access)
                self._send_table(worker)

    def disconnected(self, worker: "Worker") -> None:
        self.workers.pop(worker.number, None)
        for key in [key for key in self._waiting if key[0] == worker.number]:
            self._waiting.pop(key).cancel()
        released = self.dispatcher.gone(worker.number)
        self.observer.gone(worker.number)
        self._answered.set()
        if worker.hello:
            log.info("worker has left", worker=worker.hello.worker, pid=worker.hello.pid, held=released)

    def _connect(self) -> "Worker":
        self._connections += 1
        return Worker(self, self._connections)

    def _ask(self, worker: "Worker", ask: Ask) -> None:
        if (worker.number, ask.id) in self._waiting:
            raise ValueError(f"ask {ask.id} waits already")
        answer = self.observer.admit(ask) or self.dispatcher.ask(worker.number, ask)
        if answer is None:
            return  # it waits for a slot, or has got one
        if isinstance(answer, Refuse) and answer.status == 404 and not ask.tried:
            task = asyncio.get_running_loop().create_task(self._ask_again(worker, ask))
            self._waiting[worker.number, ask.id] = task
        else:
            self._answer(worker, ask, self._in_ollamas_words(worker, ask, answer))

    async def _ask_again(self, worker: "Worker", ask: Ask) -> None:
        await self._look_again()
        del self._waiting[worker.number, ask.id]
        answer = self.dispatcher.ask(worker.number, ask)
        if answer is not None:
            self._answer(worker, ask, self._in_ollamas_words(worker, ask, answer))

    def _answer_later(self, worker: int, ask: Ask, answer: Grant | Refuse, unload: tuple[str, ...]) -> None:
        if unload and self._unload is not None and isinstance(answer, Grant):
            self._ask_node(self._after_unload(worker, ask, answer, unload))
        elif known := self.workers.get(worker):
            self._answer(known, ask, answer)

    async def _after_unload(self, worker: int, ask: Ask, answer: Grant, unload: tuple[str, ...]) -> None:
        """A load that came first would have Ollama choose whom it evicts."""
        if self._unload is not None:
            await self._unload(answer.backend, unload)
        if known := self.workers.get(worker):
            self._answer(known, ask, answer)

    def _begin_preload(self, load: Preloading) -> None:
        self._ask_node(self._preloaded(load))

    async def _preloaded(self, load: Preloading) -> None:
        loaded = False
        try:
            if self._unload is not None and load.unload:
                await self._unload(load.node, load.unload)
            loaded = self._preload is not None and await self._preload(load)
        finally:  # whatever has happened, or the node would count as one that loads for ever
            self.dispatcher.queue.preloaded(load, loaded=loaded)

    def _ask_node(self, what: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(what)
        self._asking_nodes.add(task)
        task.add_done_callback(self._asking_nodes.discard)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self.dispatcher.tick()

    def _in_ollamas_words(self, worker: "Worker", ask: Ask, answer: Grant | Refuse) -> Grant | Refuse:
        if isinstance(answer, Refuse) and answer.status in NOBODYS:
            return self.dispatcher.anybody(worker.number, ask) or answer
        return answer

    @property
    def waiting(self) -> int:
        """Requests that wait to be given to a backend."""
        return len(self._waiting) + len(self.dispatcher.reserve) + len(self.dispatcher.queue)

    def _recall(self, workers: Iterable[int]) -> None:
        for number in workers:
            if worker := self.workers.get(number):
                worker.send(_RECALL)

    def _recall_one(self, number: int, lease: int) -> None:
        if worker := self.workers.get(number):
            worker.send(pack(Recall((lease,))))

    def _answer(self, worker: "Worker", ask: Ask, answer: Grant | Refuse) -> None:
        self.observer.answered(worker.number, ask, answer)
        if isinstance(answer, Grant) and answer.again:
            if self.observer.limits.are_set(ask.key):  # each request is counted before it runs
                answer = msgspec.structs.replace(answer, again=False)
            else:
                self.dispatcher.reserve.lend(worker.number, ask.id)
        if isinstance(answer, Grant) and answer.backend not in worker.knows:
            self.new_table()  # who waited for the backend may have got it before we were told that it is there
            self._send_table(worker)
        worker.send(pack(answer))

    def _send_table(self, worker: "Worker") -> None:
        table = self._current_table()
        worker.knows = self._listed
        worker.send(table)

    def _changed(self, change: Change) -> None:
        if _in_table(change.before) != _in_table(change.after):
            self.new_table()

    def new_table(self) -> None:
        """What workers were told last is not true any more."""
        self._table = b""
        self._stale.set()

    async def _push_tables(self) -> None:
        while True:
            await self._stale.wait()
            self._stale.clear()
            for worker in tuple(self.workers.values()):
                if worker.hello:
                    self._send_table(worker)
            await asyncio.sleep(TABLE_EVERY)

    def _current_table(self) -> bytes:
        if not self._table:
            self._revision += 1
            roster = self.dispatcher.roster
            backends = roster.for_workers()
            self._listed = frozenset(backend.id for backend in backends)
            late = self.dispatcher.strategy is Strategy.ADAPTIVE
            self._table = pack(Table(self._revision, roster.serving.mode.value, backends, late))
        return self._table


def _in_table(seen: Seen | None) -> tuple[bool, frozenset[str]] | None:
    """What a table says of a backend, as far as it can change; None where it says nothing."""
    return None if seen is None or seen.is_new else (seen.state is not State.DOWN, seen.keys)


class Worker(asyncio.Protocol):
    """One connection of a worker; `number` is its own and is not used again."""

    def __init__(self, server: LeaseServer, number: int) -> None:
        self.number = number
        self.hello: Hello | None = None
        self.knows: frozenset[int] = frozenset()  # the backends in the last table it was sent
        self._server = server
        self._unpacker: Unpacker[ToControl] = Unpacker(ToControl)
        self._transport: asyncio.Transport | None = None
        self._outgoing: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self._server.workers[self.number] = self

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._unpacker.feed(data):
                self._received(message)
        except (ValueError, msgspec.MsgspecError) as error:
            # Both ends are ours and of one version: this is a bug, and a new connection is the only clean state.
            log.warning("worker breaks the rules", number=self.number, problem=str(error))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.disconnected(self)
        self._transport = None

    def send(self, data: bytes) -> None:
        """What one turn of the loop has to say goes out in one write: each costs a system call here and a wake-up there."""
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outgoing.append(data)

    def _flush(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        if self._transport is None:
            return
        self._transport.write(b"".join(outgoing))
        if self._transport.get_write_buffer_size() > MESSAGE_BYTES_MAX:
            log.warning("worker does not read", number=self.number)
            self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _received(self, message: ToControl) -> None:
        if (self.hello is None) != isinstance(message, Hello):
            raise ValueError("hello is the first message, and comes once")
        if isinstance(message, Hello):
            self.hello = message
        self._server.received(self, message)
