import asyncio
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.control.answers import Row
from olladist.gateway.control.backends import Backend
from olladist.gateway.control.dispatcher import Dispatcher
from olladist.gateway.control.lease_server import LeaseServer, Worker
from olladist.gateway.control.roster import Roster
from olladist.gateway.lease import (
    Access,
    Ask,
    Done,
    Grant,
    Hello,
    Key,
    Recall,
    Recalled,
    Refuse,
    Table,
    ToControl,
    ToWorker,
    Unpacker,
    pack,
)
from olladist.inventory.model import Host, Strategy
from olladist.ollama.names import parse_name
from tests.gateway.control.nodes import task_group, wait_until

TINY = parse_name("tiny").key


def backend(number: int) -> Backend:
    return Backend(number, f"gpu{number}", Host(name=f"gpu{number}", address="x"), 11434, f"gpu{number}:11434", 2)


def row(name: str) -> Row:
    return Row(parse_name(name).key, "a" * 64, 1.0, {"name": name})


class Client:
    """A worker's end of the wire."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._unpacker: Unpacker[ToWorker] = Unpacker(ToWorker)
        self._got: list[ToWorker] = []
        self.access: list[Access] = []  # kept apart: it comes before the first table
        self.recalls = 0  # and these come at any time
        self.recalled: tuple[int, ...] = ()  # those that were called back alone
        self.gives_back: Callable[[], None] = lambda: self.send(Recalled())  # what is done then

    def send(self, *messages: ToControl) -> None:
        self.writer.write(b"".join(map(pack, messages)))

    async def next(self) -> ToWorker:
        while not self._got:
            data = await asyncio.wait_for(self.reader.read(65536), 10)
            if not data:
                raise EOFError
            for message in self._unpacker.feed(data):
                if isinstance(message, Access):
                    assert self.access or not self._got, "who may come in is said before the first table"
                    self.access.append(message)
                elif isinstance(message, Recall):
                    self.recalled += message.leases
                    if not message.leases:
                        self.recalls += 1
                        self.gives_back()
                else:
                    self._got.append(message)
        return self._got.pop(0)

    async def closed(self) -> bool:
        try:
            while True:
                await self.next()
        except (EOFError, ConnectionError):
            return True


class Fixture:
    def __init__(self, path: Path, tasks: asyncio.TaskGroup) -> None:
        self.path = path
        self.roster = Roster(lambda: 0.0)
        self.dispatcher = Dispatcher(self.roster, Strategy.ROUND_ROBIN, lambda: 0.0)
        self.look_again: Callable[[], Awaitable[None]] = self._nothing_new
        self.looked = 0
        self.server = LeaseServer(self.dispatcher, self._look)
        self.tasks = tasks
        self.clients: list[Client] = []

    async def start(self, *numbers: int) -> None:
        self.roster.swap([backend(n) for n in numbers])
        for number in numbers:
            self.roster.probed(number, "", "0.17.4")
            self.roster.listed(number, (row("tiny"),))
        listening = asyncio.Event()
        self.tasks.create_task(self.server.run(self.path, listening.set))
        await listening.wait()

    async def connect(self, *messages: ToControl) -> Client:
        client = Client(*await asyncio.open_unix_connection(self.path))
        self.clients.append(client)
        client.send(*messages)
        return client

    async def worker(self, number: int = 0) -> tuple[Client, Table]:
        client = await self.connect(Hello(number, 4711))
        table = await client.next()
        assert isinstance(table, Table)
        return client, table

    async def _look(self) -> None:
        self.looked += 1
        await self.look_again()

    async def _nothing_new(self) -> None:
        pass


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Fixture]:
    async with _gateway(tmp_path / "lease.sock") as fixture:
        yield fixture


@asynccontextmanager
async def _gateway(path: Path) -> AsyncIterator[Fixture]:
    async with task_group() as tasks:
        fixture = Fixture(path, tasks)
        try:
            yield fixture
        finally:
            for client in fixture.clients:
                client.writer.close()


async def test_a_worker_is_given_the_table_first(gateway: Fixture) -> None:
    """The answer to hello is the whole table."""
    await gateway.start(0, 1)

    _, table = await gateway.worker()

    assert table.mode == "distributed"
    assert [(b.id, b.node, b.up, b.models) for b in table.backends] == [
        (0, "gpu0", True, (TINY,)),
        (1, "gpu1", True, (TINY,)),
    ]


async def test_asks_are_granted_and_released(gateway: Fixture) -> None:
    """Grants go out at once, counted from the grant to the done."""
    await gateway.start(0)
    client, _ = await gateway.worker()

    client.send(Ask(1, "tiny", "chat"), Ask(2, "Tiny:latest", "chat"))
    assert [await client.next(), await client.next()] == [Grant(1, 0), Grant(2, 0)]
    assert gateway.dispatcher.ledger.in_flight.get(0, 0) == 2
    client.send(Done(1, 0, "served", 200))

    await wait_until(lambda: gateway.dispatcher.ledger.in_flight.get(0, 0) == 1, "the release")


async def test_a_worker_that_dies_releases_what_it_held(gateway: Fixture) -> None:
    """Its counts go with its connection, those of others stay."""
    await gateway.start(0)
    dying, _ = await gateway.worker(0)
    other, _ = await gateway.worker(1)
    for client in (dying, other):
        client.send(*(Ask(n, "tiny", "chat") for n in range(5)))
        for n in range(5):
            assert await client.next() == Grant(n, 0)

    dying.writer.transport.abort()

    await wait_until(lambda: gateway.dispatcher.ledger.total == 5, "the release")
    await wait_until(lambda: len(gateway.server.workers) == 1, "the worker is forgotten")


async def test_changes_are_pushed_to_every_worker(gateway: Fixture) -> None:
    """A host that goes down and a model that comes reach all workers, with a higher revision."""
    await gateway.start(0, 1)
    clients = [await gateway.worker(n) for n in range(2)]

    gateway.roster.probed(1, "no answer")
    gateway.roster.probed(1, "no answer")
    gateway.roster.listed(0, (row("tiny"), row("big")))

    for client, first in clients:
        table = await client.next()
        while not isinstance(table, Table) or table.backends[1].up:
            table = await client.next()
        assert table.revision > first.revision
        assert [b.up for b in table.backends] == [True, False]
        assert parse_name("big").key in table.backends[0].models


async def test_many_changes_are_few_tables(gateway: Fixture) -> None:
    """Changes in quick succession are pushed together; what is in no table is not pushed."""
    await gateway.start(0)
    client, _ = await gateway.worker()
    for number in range(50):
        gateway.roster.listed(0, (row(f"m{number}"),))
        gateway.roster.loaded(0, ())
    client.send(Ask(1, "m49", "chat"))

    seen: list[Any] = [await client.next()]
    while len([m for m in seen if isinstance(m, Table)]) < 1 or not any(isinstance(m, Grant) for m in seen):
        seen.append(await client.next())

    assert len(seen) <= 4
    tables = [m for m in seen if isinstance(m, Table)]
    assert tables[-1].backends[0].models == (parse_name("m49").key,)


async def test_an_unknown_model_is_looked_for_once_more(gateway: Fixture) -> None:
    """A model that came after the last listing is found before anybody is refused."""

    async def it_came() -> None:
        gateway.roster.listed(0, (row("new"),))

    await gateway.start(0)
    gateway.look_again = it_came
    client, _ = await gateway.worker()
    client.send(Ask(1, "new", "chat"))

    answers = [await client.next(), await client.next()]

    assert Grant(1, 0) in answers
    assert gateway.looked == 1


async def test_a_model_that_nobody_has_is_refused(gateway: Fixture) -> None:
    """After looking again a node says so itself, and nobody else is asked; for what is no name without looking."""
    await gateway.start(0)
    client, _ = await gateway.worker()

    client.send(Ask(1, "nope", "chat"))
    assert await client.next() == Grant(1, 0, final=True)
    client.send(Ask(2, "", "chat"))
    assert await client.next() == Grant(2, 0, final=True)
    assert gateway.looked == 1


async def test_what_nobody_has_is_refused_in_ollamas_words_where_no_node_is_well(gateway: Fixture) -> None:
    """A node that has failed already is not asked for the wording: the gateway knows it."""
    await gateway.start(0)
    client, _ = await gateway.worker()

    client.send(Ask(1, "nope", "chat", (0,)))
    assert await client.next() == Refuse(1, 404, "model 'nope' not found")
    client.send(Ask(2, "", "chat", (0,)))
    assert await client.next() == Refuse(2, 400, "model is required")


async def test_a_client_may_leave_while_its_ask_waits(gateway: Fixture) -> None:
    """Its done ends the waiting: nothing is granted to nobody."""
    never = asyncio.Event()

    async def hang() -> None:
        await never.wait()

    await gateway.start(0)
    gateway.look_again = hang
    client, _ = await gateway.worker()
    client.send(Ask(1, "nope", "chat"))
    await wait_until(lambda: gateway.looked == 1, "the ask waits")

    client.send(Done(1, -1, "left", -1), Ask(1, "tiny", "chat"))

    assert await client.next() == Grant(1, 0)


async def test_a_worker_may_die_while_its_ask_waits(gateway: Fixture) -> None:
    """What would have been granted later is granted to nobody."""
    go_on = asyncio.Event()

    async def later() -> None:
        await go_on.wait()
        gateway.roster.listed(0, (row("new"),))

    await gateway.start(0)
    gateway.look_again = later
    client, _ = await gateway.worker()
    client.send(Ask(1, "new", "chat"))
    await wait_until(lambda: gateway.looked == 1, "the ask waits")
    client.writer.transport.abort()
    await wait_until(lambda: not gateway.server.workers, "the worker is gone")
    go_on.set()
    other, _ = await gateway.worker()
    other.send(Ask(1, "tiny", "chat"))

    assert await other.next() == Grant(1, 0)
    assert gateway.dispatcher.ledger.total == 1


@pytest.mark.parametrize(
    "messages",
    [
        [Ask(1, "tiny", "chat")],
        [Hello(0, 1), Hello(0, 1)],
        [Hello(0, 1), Ask(1, "tiny", "chat"), Ask(1, "tiny", "chat")],
        [Hello(0, 1), Ask(1, "tiny", "chat"), Done(1, 0, "vanished", 200)],
    ],
)
async def test_a_worker_that_breaks_the_rules_is_cut_off(gateway: Fixture, messages: list[ToControl]) -> None:
    """No hello, two, an id used twice, an unknown outcome: the connection is closed and nothing stays counted."""
    await gateway.start(0)
    client = await gateway.connect(*messages)

    assert await client.closed()
    await wait_until(lambda: gateway.dispatcher.ledger.total == 0, "all is released")


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xff", b"\x01\x00\x00\x00\xc1", b"\x02\x00\x00\x00\x91\x63", b"GET / HTTP/1.1\r\n\r\n"]
)
async def test_garbage_is_cut_off(gateway: Fixture, data: bytes) -> None:
    """Bytes that are no message end the connection, and only that one."""
    await gateway.start(0)
    good, _ = await gateway.worker()
    bad = await gateway.connect()
    bad.writer.write(data)

    assert await bad.closed()
    good.send(Ask(1, "tiny", "chat"))
    assert await good.next() == Grant(1, 0)


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([pack(Hello(0, 1)), pack(Ask(1, "tiny", "chat"))]))))
def test_any_bytes_are_messages_or_the_end(pieces: list[bytes]) -> None:
    """Whatever comes over the socket, in whatever pieces, nothing is raised and nothing stays counted."""

    async def feed() -> int:
        server = LeaseServer(Dispatcher(Roster(lambda: 0.0), Strategy.ROUND_ROBIN, lambda: 0.0), nothing)
        worker = Worker(server, 1)
        for piece in pieces:
            worker.data_received(piece)
        worker.connection_lost(None)
        return server.dispatcher.ledger.total

    async def nothing() -> None:
        pass

    assert asyncio.run(feed()) == 0


async def test_the_socket_is_private_and_replaces_an_old_one(tmp_path: Path) -> None:
    """What a predecessor left behind is no obstacle; only the user may connect."""
    path = tmp_path / "lease.sock"
    for _ in range(2):
        async with _gateway(path) as gateway:
            await gateway.start(0)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            await gateway.worker()
        path.touch()


async def test_workers_are_told_who_may_come_in(gateway: Fixture) -> None:
    """Before their first table, and again at once when it changes."""
    await gateway.start(1)
    first = Access((Key("team", "a" * 64),))
    gateway.server.set_access(first)
    client = await gateway.connect(Hello(1, 100))
    assert isinstance(await client.next(), Table)
    assert client.access == [first]

    gateway.server.set_access(Access())
    client.send(Ask(1, "tiny", "chat"))

    assert await client.next() == Grant(1, 1)
    assert client.access == [first, Access()]
