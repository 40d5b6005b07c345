"""Late binding over the lease wire: what a worker hears, and when."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from unittest.mock import ANY

import pytest

from olladist.gateway.control.answers import Row
from olladist.gateway.control.backends import LOCAL_ID, Backend, local_backend
from olladist.gateway.control.dispatcher import Dispatcher
from olladist.gateway.control.fallback import FULL, LATE
from olladist.gateway.control.lease_server import LeaseServer
from olladist.gateway.control.modes import Serving
from olladist.gateway.control.queue import Preloading
from olladist.gateway.control.reserve import PATIENCE_SECONDS
from olladist.gateway.control.roster import Roster
from olladist.gateway.lease import (
    RETURNED,
    Ask,
    Done,
    First,
    Grant,
    Held,
    Hello,
    Recalled,
    Refuse,
    Table,
    Usage,
    Use,
    Used,
)
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
        self.loads: list[Preloading] = []
        self.loaded: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.server = LeaseServer(self.dispatcher, self._nothing_new, unload=self._unload, preload=self._preload)
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

    async def _preload(self, load: Preloading) -> bool:
        self.loads.append(load)
        return await self.loaded

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
    assert Grant(3, 0, again=True) in answers
    assert Grant(2, 0, final=True) in answers
    worker.send(Done(3, 0, "served", 200), Ask(4, "other", "chat"))

    assert await worker.next() == Grant(4, 0, first=True)
    assert late.unloaded == [(0, ("tiny:latest",))]


async def _lent(late: Late, worker: Client, number: int) -> None:
    """The worker has a lease for `tiny` that it may use again; nothing runs beside it."""
    worker.send(Ask(number, "tiny", "chat"))
    assert await worker.next() == Grant(number, 0, first=True)
    worker.send(First(number), Done(number, 0, "served", 200), Ask(number + 1, "tiny", "chat"))
    assert await worker.next() == Grant(number + 1, 0, again=True)


async def _heard(worker: Client) -> None:
    """What comes is read, until nothing comes any more: recalls are answered as it does."""
    with suppress(EOFError, ConnectionError):
        while True:
            await worker.next()


async def test_who_finds_no_slot_has_idle_leases_called_back(late: Late) -> None:
    """A slot that is lent is taken, the last one too; before it is decided that somebody waits, all that is idle is back."""
    await late.start(nodes=2)
    first, second = await late.worker(), await late.worker()
    await _lent(late, first, 1)
    first.send(Used(2, (Use(0.1, 0.2, 100), Use(0.1, 0.2, 100))))
    first.gives_back = lambda: first.send(Done(2, 0, RETURNED, 0), Recalled())
    second.send(Ask(1, "tiny", "chat"))

    reading = asyncio.ensure_future(_heard(first))
    assert await second.next() == Grant(1, 0, again=ANY), "the other node would have had to load it"
    assert (first.recalls, late.server.waiting) == (1, 0)
    second.send(Done(1, 0, "served", 200))
    await wait_until(lambda: late.dispatcher.outcomes["served"] == 4, "4 requests to be served")
    assert late.server.observer.stats.whole.ever().requests == 4
    reading.cancel()


async def test_who_comes_while_leases_are_called_back_is_asked_for_in_turn(late: Late) -> None:
    """Nobody passes by what comes back first, and one whose client has left is not asked for at all. Then nothing is lent."""
    await late.start()
    first, second = await late.worker(), await late.worker()
    await _lent(late, first, 1)
    first.gives_back = lambda: None
    reading = asyncio.ensure_future(_heard(first))
    second.send(*(Ask(number, "tiny", "chat") for number in (1, 2, 3)))
    await wait_until(lambda: late.server.waiting == 3 and first.recalls == 1, "3 requests to wait for one answer")
    second.send(Done(2, -1, "left", 0))
    first.send(Done(2, 0, RETURNED, 0))
    await wait_until(lambda: not late.dispatcher.ledger.total, "the slot to be free")
    assert late.server.waiting == 2

    first.send(Recalled())
    assert await second.next() == Grant(1, 0, again=ANY)
    second.send(Done(1, 0, "served", 200))
    assert await second.next() == Grant(3, 0, position=1)
    reading.cancel()


@pytest.mark.parametrize("how", ["it has gone", "it is stuck"])
async def test_a_worker_that_does_not_answer_a_recall_holds_nobody_up(late: Late, how: str) -> None:
    """What it had is free when it has gone; what one has that is stuck stays taken, and others wait for it as for any."""
    await late.start()
    first, second = await late.worker(), await late.worker()
    await _lent(late, first, 1)
    first.gives_back = lambda: None
    reading = asyncio.ensure_future(_heard(first))
    second.send(Ask(1, "tiny", "chat"))
    await wait_until(lambda: first.recalls == 1, "a recall")

    if how == "it has gone":
        first.writer.close()
    else:
        late.time += PATIENCE_SECONDS
        late.dispatcher.tick()
        assert (len(late.dispatcher.reserve), len(late.dispatcher.queue)) == (0, 1)
        first.send(Done(2, 0, "served", 200))
    assert (await second.next()) in (Grant(1, 0, again=True), Grant(1, 0, position=1))
    reading.cancel()


async def test_who_looks_sees_only_what_runs(late: Late) -> None:
    """What lies idle in workers is free before it is said where a request would go; a worker that is stuck is waited for no longer."""
    await late.start()
    first, second = await late.worker(), await late.worker()
    await late.server.idle_back()
    await _lent(late, first, 1)
    first.gives_back = lambda: first.send(Done(2, 0, RETURNED, 0), Recalled())
    reading = asyncio.ensure_future(_heard(first))
    await late.server.idle_back()
    assert not late.dispatcher.ledger.total

    second.send(Ask(1, "tiny", "chat"))
    assert await second.next() == Grant(1, 0, again=True)
    second.gives_back = second.writer.close
    looking = asyncio.ensure_future(late.server.idle_back())
    with pytest.raises(EOFError):
        await second.next()
    await looking
    assert not late.dispatcher.ledger.total
    reading.cancel()


async def test_a_lease_that_is_lent_comes_back_when_a_faster_node_is_free(late: Late) -> None:
    """Requests follow each other in a slot for as long as there is no better one."""
    await late.start(nodes=2)
    for number in (0, 1):
        late.roster.loaded(number, (_row("tiny", "a"),))
    worker = await late.worker()
    worker.send(Ask(1, "tiny", "chat"), Ask(2, "tiny", "chat"))
    assert await worker.next() == Grant(1, 0, again=True)
    assert await worker.next() == Grant(2, 1, again=True)
    slow, fast = (Usage(10, 100, 0.0, 0.1, seconds) for seconds in (20.0, 1.0))
    worker.send(Used(1, (Use(0.1, 20.1, 100, slow),)), Done(2, 1, "served", 200, 0.1, 1.1, 100, fast))
    await wait_until(lambda: late.dispatcher.outcomes["served"] == 2, "both to be told of")
    late.time += 1
    reading = asyncio.ensure_future(_heard(worker))
    worker.send(Used(1, (Use(0.1, 20.1, 100, slow),)))

    await wait_until(lambda: 1 in worker.recalled, "the lease to be called back")
    assert not worker.recalls, "nobody waits"
    reading.cancel()


async def test_turns_of_a_conversation_are_asked_for_one_by_one(late: Late) -> None:
    """A later one has a place to go back to; the first has none yet, and leaves word where it was."""
    await late.start(nodes=2, slots=4)
    for number in (0, 1):
        late.roster.loaded(number, (_row("tiny", "a"),))
    worker = await late.worker()
    worker.send(Ask(1, "tiny", "chat", affinity=7, begins=True), Ask(2, "tiny", "chat", affinity=8))
    assert await worker.next() == Grant(1, 0, again=True)
    assert await worker.next() == Grant(2, 1)
    worker.send(Ask(3, "tiny", "chat"), Ask(4, "tiny", "chat"), Ask(5, "tiny", "chat"))
    assert [await worker.next() for _ in range(3)] == [
        Grant(3, 0, again=True),
        Grant(4, 1, again=True),
        Grant(5, 0, again=True),
    ]
    worker.send(Used(4, (Use(0.1, 0.2, 100, near=9),)), Done(3, 0, "served", 200), Ask(6, "tiny", "chat", affinity=9))

    assert await worker.next() == Grant(6, 1)


async def test_a_lease_that_nobody_holds_is_not_used(late: Late) -> None:
    """A worker that says so breaks the rules."""
    await late.start()
    worker = await late.worker()
    worker.send(Used(7, (Use(0.1, 0.2, 100),)))
    assert await worker.closed()


@pytest.mark.parametrize("loads", [True, False, None])
async def test_requests_that_crowd_each_other_get_another_node(late: Late, loads: bool | None) -> None:
    """It is asked to unload what is idle there and to load the model; until it has, and where it does not, requests go where they went."""
    await late.start(2, slots=8)
    late.roster.loaded(0, (_row("tiny", "a"),))
    late.roster.loaded(1, (_row("other", "b"),))
    worker = await late.worker()
    for number in range(1, 121):
        late.time += 1.0
        late.dispatcher.tick()
        worker.send(Ask(number, "tiny", "chat"))
        grant = await worker.next()
        assert isinstance(grant, Grant)
        assert grant.backend == 0
        if number > 4:
            worker.send(Done(number - 4, 0, "served", 200, 0.1, 4.0, 0, Usage(100, 160, -1.0, 0.1, 3.9)))
        if late.loads:
            break
    await wait_until(lambda: late.loads != [], "a load")
    (load,) = late.loads
    assert (load.node, load.model, load.unload) == (1, "tiny:latest", ("other:latest",))
    assert late.unloaded == [(1, ("other:latest",))]

    if loads is None:
        late.loaded.cancel()
    else:
        late.loaded.set_result(loads)
    preloads = late.dispatcher.queue.preloads
    await wait_until(lambda: sum(preloads.values()) == 1, "its end")
    assert preloads["loaded" if loads else "failed"] == 1
    late.dispatcher.tick()
    worker.send(Ask(500, "tiny", "chat"))
    grant = await worker.next()
    assert isinstance(grant, Grant)
    assert grant.backend == int(bool(loads))
    assert len(late.loads) == 1
    assert late.dispatcher.queue.learned.nodes[1].trust.traces == 0, "nobody else uses the node"
