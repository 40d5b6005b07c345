"""Late binding over the lease wire: what a worker hears, and when."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from unittest.mock import ANY

import pytest

from olladist.gateway.control.answers import Row
from olladist.gateway.control.backends import LOCAL_ID, Backend, local_backend
from olladist.gateway.control.dispatcher import Dispatcher
from olladist.gateway.control.fallback import FULL, LATE
from olladist.gateway.control.lease_server import LeaseServer
from olladist.gateway.control.modes import Serving
from olladist.gateway.control.roster import Roster
from olladist.gateway.lease import RETURNED, Ask, Done, First, Grant, Held, Hello, Refuse, Table, Use, Used
from olladist.inventory.model import Fallback, Host, Mode, Strategy
from olladist.ollama.names import parse_name
from tests.gateway.control.nodes import task_group, wait_until
from tests.gateway.control.test_lease_server import Client

URL = "http://127.0.0.1:11435"
BUSY = "server busy, please try again.  maximum pending requests exceeded"


class Late:
    """One node of one slot and one model in memory, up, with `tiny` and `other`; its clock is turned by hand."""

    def __init__(self, path: Path, tasks: asyncio.TaskGroup) -> None:
        self.time = 100.0
        self.roster = Roster(lambda: self.time)
        self.dispatcher = Dispatcher(self.roster, Strategy.ADAPTIVE, lambda: self.time)
        self.unloaded: list[tuple[int, tuple[str, ...]]] = []
        self.may_unload = asyncio.Event()
        self.may_unload.set()
        self.server = LeaseServer(self.dispatcher, self._nothing_new, unload=self._unload)
        self.path = path
        self.tasks = tasks
        self.clients: list[Client] = []

    async def start(self, nodes: int = 1, *, local: bool = False, slots: int = 1) -> None:
        """With an Ollama beside the gateway that has the same models, or none."""
        beside = [local_backend(URL, ())] if local else []
        if local:
            self.roster.serve(Serving(Mode.DISTRIBUTED, (Fallback.LOCAL,), URL))
        self.roster.swap([*(_backend(number, slots) for number in range(nodes)), *beside])
        for number in self.roster.backends:
            self.roster.probed(number, "", "0.17.4")
            self.roster.listed(number, (_row("tiny", "a"), _row("other", "b")))
        listening = asyncio.Event()
        self.tasks.create_task(self.server.run(self.path, listening.set))
        await listening.wait()

    async def worker(self, *held: Held) -> Client:
        client = Client(*await asyncio.open_unix_connection(self.path))
        self.clients.append(client)
        client.send(Hello(len(self.clients), 4711, held))
        assert isinstance(await client.next(), Table)
        return client

    async def _unload(self, number: int, models: tuple[str, ...]) -> None:
        self.unloaded.append((number, models))
        await self.may_unload.wait()

    async def _nothing_new(self) -> None:
        pass


def _backend(number: int, slots: int = 1) -> Backend:
    name = f"gpu{number}"
    host = Host(name=name, address="x", env={"OLLAMA_MAX_LOADED_MODELS": "1"})
    return Backend(number, name, host, 11434, f"{name}:11434", slots)


def _row(name: str, letter: str) -> Row:
    return Row(parse_name(name).key, letter * 64, 1.0, {"name": f"{name}:latest", "size": 8 * 10**9})


@pytest.fixture
async def late(run_dir: Path) -> AsyncIterator[Late]:
    async with task_group() as tasks:
        late = Late(run_dir / "lease.sock", tasks)
        try:
            yield late
        finally:
            for client in late.clients:
                client.writer.close()


async def test_a_second_request_hears_nothing_until_the_slot_is_free(late: Late) -> None:
    """Whichever worker it came through."""
    await late.start()
    first, second = await late.worker(), await late.worker()
    first.send(Ask(1, "tiny", "chat"))
    assert await first.next() == Grant(1, 0, first=True)
    second.send(Ask(1, "tiny", "chat"))
    await wait_until(lambda: late.server.waiting == 1, "1 requests to wait")

    first.send(First(1), Done(1, 0, "served", 200))
    assert await second.next() == Grant(1, 0, position=1)
    assert late.server.waiting == 0


async def test_a_worker_hears_of_a_node_before_it_is_sent_there(late: Late) -> None:
    """Who waits gets the slots of a new node in the moment in which it is known to be well: no table was pushed yet."""
    await late.start()
    worker = await late.worker()
    worker.send(Ask(1, "tiny", "chat"))
    assert await worker.next() == Grant(1, 0, first=True)
    worker.send(First(1), Ask(2, "tiny", "chat"))
    await wait_until(lambda: late.server.waiting == 1, "1 request to wait")

    late.roster.swap([_backend(0), _backend(1)])
    late.roster.listed(1, (_row("tiny", "a"),))
    late.roster.loaded(1, (_row("tiny", "a"),))
    late.roster.probed(1, "", "0.17.4")

    table = await worker.next()
    assert isinstance(table, Table)
    assert [backend.id for backend in table.backends] == [0, 1]
    assert await worker.next() == Grant(2, 1, position=1)


async def test_a_client_that_leaves_while_it_waits_takes_no_slot(late: Late) -> None:
    """The next one gets it."""
    await late.start()
    worker = await late.worker()
    worker.send(Ask(1, "tiny", "chat"), Ask(2, "tiny", "chat"), Ask(3, "tiny", "chat"))
    assert await worker.next() == Grant(1, 0, first=True)
    worker.send(Done(2, -1, "left", 0), Done(1, 0, "served", 200))

    assert await worker.next() == Grant(3, 0, first=ANY, position=2)
    assert late.dispatcher.ledger.total == 1


async def test_a_worker_that_dies_frees_its_slots_and_its_places(late: Late) -> None:
    """What it ran, and what waited in it."""
    await late.start()
    dying, living = await late.worker(), await late.worker()
    dying.send(Ask(1, "tiny", "chat"), Ask(2, "tiny", "chat"))
    assert await dying.next() == Grant(1, 0, first=True)
    living.send(Ask(1, "tiny", "chat"))
    await wait_until(lambda: late.server.waiting == 2, "2 requests to wait")
    dying.writer.close()

    assert await living.next() == Grant(1, 0, first=ANY, position=2)
    assert late.server.waiting == 0


async def test_an_end_that_nobody_knows_frees_its_slot(late: Late) -> None:
    """The worker is sent away for it, and what it held is free."""
    await late.start()
    wrong, living = await late.worker(), await late.worker()
    wrong.send(Ask(1, "tiny", "chat"))
    assert await wrong.next() == Grant(1, 0, first=True)
    living.send(Ask(1, "tiny", "chat"))
    await wait_until(lambda: late.server.waiting == 1, "1 requests to wait")
    wrong.send(Done(1, 0, "vanished", 200))

    assert isinstance(await living.next(), Grant)
    assert await wrong.closed()


async def test_what_runs_when_the_control_process_starts_has_its_slot(late: Late) -> None:
    """A worker says so in its first message; nobody else gets that slot before it is done."""
    await late.start()
    old, new = await late.worker(Held(7, "gpu0", "tiny")), await late.worker()
    new.send(Ask(1, "tiny", "chat"))
    await wait_until(lambda: late.server.waiting == 1, "1 requests to wait")

    old.send(Done(7, 0, "served", 200))
    assert await new.next() == Grant(1, 0, first=ANY, position=1)


async def test_a_model_leaves_before_another_is_loaded_in_its_place(late: Late) -> None:
    """The grant waits until the node has been told, by the name that it knows."""
    await late.start()
    late.roster.loaded(0, (_row("tiny", "a"),))
    late.may_unload.clear()
    worker = await late.worker()
    worker.send(Ask(1, "other", "chat"))
    await wait_until(lambda: late.unloaded == [(0, ("tiny:latest",))], "the node to be told")

    late.may_unload.set()
    assert await worker.next() == Grant(1, 0, first=True)


async def test_a_client_is_told_when_it_has_waited_as_long_as_it_wanted(late: Late) -> None:
    """503, how long that was, and which place it had."""
    await late.start()
    worker = await late.worker()
    worker.send(Ask(1, "tiny", "chat"), Ask(2, "tiny", "chat", deadline=5.0))
    assert await worker.next() == Grant(1, 0, first=True)
    await wait_until(lambda: late.server.waiting == 1, "1 requests to wait")
    late.time += 6.0
    late.dispatcher.tick()

    refused = await worker.next()
    assert isinstance(refused, Refuse)
    assert (refused.id, refused.status) == (2, 503)
    assert "5 s" in refused.text
    assert "number 1 in the queue" in refused.text
    assert refused.retry_after > 0


async def test_a_full_queue_says_so_in_ollamas_words(late: Late) -> None:
    """One too many."""
    late.dispatcher.waiting_max = 2
    await late.start()
    worker = await late.worker()
    worker.send(*(Ask(number, "tiny", "chat") for number in range(1, 5)))

    assert await worker.next() == Grant(1, 0, first=True)
    assert await worker.next() == Refuse(4, 503, BUSY, ANY)


async def test_requests_move_on_when_their_node_goes_down(late: Late) -> None:
    """Those that wait go to another; where there is none, they hear why."""
    await late.start(2)
    worker = await late.worker()
    worker.send(*(Ask(number, "tiny", "chat") for number in range(1, 4)))
    grants = [await worker.next(), await worker.next()]
    assert {grant.backend for grant in grants if isinstance(grant, Grant)} == {0, 1}
    for number in (0, 1):
        late.roster.probed(number, "no connection")
    assert late.server.waiting == 1, "one probe is no reason to give up a place"
    for number in (0, 1):
        late.roster.probed(number, "no connection")

    refused = await worker.next()
    while not isinstance(refused, Refuse):  # the table that says so comes as well
        refused = await worker.next()
    assert (refused.id, refused.status) == (3, 503)
    assert "gpu0" in refused.text


async def test_who_waits_is_placed_by_the_strategy_that_comes(late: Late) -> None:
    """One that sends at once sends those too; the next one that counts slots counts what they take."""
    await late.start()
    worker = await late.worker()
    worker.send(*(Ask(number, "tiny", "chat") for number in (1, 2, 3)))
    assert await worker.next() == Grant(1, 0, first=True)
    await wait_until(lambda: late.server.waiting == 2, "2 requests to wait")

    late.dispatcher.follow(Strategy.LEAST_LOADED)
    assert [await worker.next(), await worker.next()] == [Grant(2, 0, again=ANY), Grant(3, 0, again=ANY)]
    assert late.server.waiting == 0

    late.dispatcher.follow(Strategy.ADAPTIVE)
    worker.send(Ask(4, "tiny", "chat"))
    await wait_until(lambda: late.server.waiting == 1, "1 request to wait")
    worker.send(*(Done(number, 0, "served", 200) for number in (1, 2, 3)))
    assert await worker.next() == Grant(4, 0, first=ANY, position=ANY)


async def test_a_mode_without_nodes_takes_those_who_wait_for_them_along(late: Late) -> None:
    """To the Ollama beside the gateway, which is no stand-in there."""
    await late.start(local=True)
    worker = await late.worker()
    worker.send(Ask(1, "tiny", "chat"), Ask(2, "tiny", "chat"))
    assert await worker.next() == Grant(1, 0, first=True)
    await wait_until(lambda: late.server.waiting == 1, "1 request to wait")

    late.roster.serve(Serving(Mode.STANDALONE, (), URL))

    granted = await worker.next()
    while not isinstance(granted, Grant):  # a table says so as well
        granted = await worker.next()
    assert granted == Grant(2, LOCAL_ID)


async def test_who_will_not_wait_longer_gets_what_stands_in(late: Late) -> None:
    """It is told why; 503 is for where nothing does."""
    await late.start(local=True)
    worker = await late.worker()
    worker.send(Ask(1, "tiny", "chat"), Ask(2, "tiny", "chat", deadline=5.0))
    assert await worker.next() == Grant(1, 0, first=True)
    await wait_until(lambda: late.server.waiting == 1, "1 request to wait")
    late.time += 6.0
    late.dispatcher.tick()

    assert await worker.next() == Grant(2, LOCAL_ID, "local", LATE, position=1)
    assert late.dispatcher.ledger.total == 2


async def test_beyond_a_full_queue_is_what_stands_in(late: Late) -> None:
    """Rather than a refusal."""
    late.dispatcher.waiting_max = 1
    await late.start(local=True)
    worker = await late.worker()
    worker.send(*(Ask(number, "tiny", "chat") for number in (1, 2, 3)))

    assert await worker.next() == Grant(1, 0, first=True)
    assert await worker.next() == Grant(3, LOCAL_ID, "local", FULL)


async def test_a_model_that_is_just_to_be_loaded_waits_for_no_slot(late: Late) -> None:
    """Where it is in memory Ollama answers at once, however busy it is; and what takes no slot frees none."""
    await late.start()
    worker = await late.worker()
    worker.send(*(Ask(number, "tiny", "chat") for number in (1, 2)), Ask(3, "tiny", "chat", load=True))
    assert await worker.next() == Grant(1, 0, first=True)
    assert await worker.next() == Grant(3, 0)
    worker.send(Done(3, 0, "served", 200), Ask(4, "other", "chat", load=True))
    await wait_until(lambda: late.server.waiting == 2, "one waits for a slot, one for a load")
    worker.send(First(1), Done(1, 0, "served", 200))

    assert await worker.next() == Grant(2, 0, position=1)


async def test_what_takes_no_room_in_memory_is_not_thought_to(late: Late) -> None:
    """A model of Ollama's cloud, or one that nobody has: what is loaded stays, and is not unloaded for the sake of the next."""
    await late.start()
    late.dispatcher._designated = lambda: 0
    late.roster.loaded(0, (_row("tiny", "a"),))
    worker = await late.worker()
    worker.send(Ask(1, "big:cloud", "chat"), Ask(2, "nobody", "chat"), Ask(3, "tiny", "chat"))
    assert await worker.next() == Grant(1, 0)
    answers = [await worker.next(), await worker.next()]
    assert Grant(3, 0) in answers
    assert Grant(2, 0, final=True) in answers
    worker.send(Done(3, 0, "served", 200), Ask(4, "other", "chat"))

    assert await worker.next() == Grant(4, 0, first=True)
    assert late.unloaded == [(0, ("tiny:latest",))]


async def test_who_waits_has_reserves_recalled(late: Late) -> None:
    """A worker may go on to use a lease while nobody waits; when somebody does, every worker hears of it once."""
    await late.start(slots=2)
    first, second = await late.worker(), await late.worker()
    first.send(Ask(1, "tiny", "chat"))
    assert await first.next() == Grant(1, 0, first=True)
    first.send(First(1), Done(1, 0, "served", 200), Ask(2, "tiny", "chat"))
    assert await first.next() == Grant(2, 0, again=True)
    first.send(Used(2, (Use(0.1, 0.2, 100), Use(0.1, 0.2, 100))))
    second.send(Ask(1, "tiny", "chat"), Ask(2, "tiny", "chat"), Ask(3, "tiny", "chat"))
    assert await second.next() == Grant(1, 0)  # the last slot is not held in reserve
    await wait_until(lambda: late.server.waiting == 2, "2 requests to wait")
    assert late.dispatcher.ledger.total == 2

    first.send(Done(2, 0, RETURNED, 0))
    assert await second.next() == Grant(2, 0, position=1)
    second.send(Done(1, 0, "served", 200))
    assert await second.next() == Grant(3, 0, position=2)
    assert (second.recalls, late.server.waiting) == (1, 0)
    assert late.dispatcher.outcomes["served"] == 4
    assert late.server.observer.stats.whole.ever().requests == 4


async def test_a_lease_that_nobody_holds_is_not_used(late: Late) -> None:
    """A worker that says so breaks the rules."""
    await late.start()
    worker = await late.worker()
    worker.send(Used(7, (Use(0.1, 0.2, 100),)))
    assert await worker.closed()
