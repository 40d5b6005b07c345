"""Requests that wait, before hosts that really answer: their models are deleted, clients leave, others use them too."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from olladist.gateway.control.dispatcher import Dispatcher
from olladist.gateway.control.learned import SETTLES
from olladist.gateway.control.lease_server import LeaseServer
from olladist.gateway.control.prober import Prober
from olladist.gateway.control.roster import Roster
from olladist.gateway.lease import Ask, Done, First, Grant, Hello, Refuse, Table
from olladist.inventory.model import Strategy
from tests.gateway.control.nodes import FAST, Node, loaded, running, tag, task_group, wait_until
from tests.gateway.control.test_lease_server import Client
from tests.gateway.control.test_queue import key


class Fleet:
    """Two hosts of one slot, probed twenty times as often as usual, and one worker."""

    def __init__(self, path: Path) -> None:
        self.later = 0.0  # the gateway's clock is so many seconds fast
        self.roster = Roster(self.now)
        self.dispatcher = Dispatcher(self.roster, Strategy.ADAPTIVE, self.now)
        self.queue = self.dispatcher.queue
        self.nodes = [Node(), Node()]
        self.path = path

    def now(self) -> float:
        return time.monotonic() + self.later

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        prober = Prober(self.roster, tasks, pace=FAST)
        self.roster.swap([node.backend(number, f"gpu{number}") for number, node in enumerate(self.nodes)])
        await prober.wait_first(10)
        server = LeaseServer(self.dispatcher, lambda: prober.refresh_tags(older_than=1.0, within=1.0))
        listening = asyncio.Event()
        tasks.create_task(server.run(self.path, listening.set))
        await listening.wait()
        self.worker = Client(*await asyncio.open_unix_connection(self.path))
        self.worker.send(Hello(1, 4711))

    async def answer(self) -> Grant | Refuse:
        while isinstance(message := await self.worker.next(), Table):
            pass
        assert isinstance(message, Grant | Refuse)
        return message

    async def until_waiting(self, count: int) -> None:
        await wait_until(lambda: len(self.queue) == count, f"{count} requests to wait")


@pytest.fixture
async def fleet(run_dir: Path) -> AsyncIterator[Fleet]:
    fleet = Fleet(run_dir / "lease.sock")
    fleet.nodes[0].holds(tag("tiny:latest"))
    fleet.nodes[1].holds(tag("other:latest", "b" * 64))
    async with running(*fleet.nodes), task_group() as tasks:
        await fleet.start(tasks)
        try:
            yield fleet
        finally:
            fleet.worker.writer.close()


async def test_who_waits_for_a_model_that_is_deleted_hears_so(fleet: Fleet) -> None:
    """In Ollama's words, as soon as the listing shows it; what runs already goes on."""
    fleet.worker.send(Ask(1, "tiny", "chat"))
    assert await fleet.answer() == Grant(1, 0, first=True)
    fleet.worker.send(Ask(2, "tiny", "chat"))
    await fleet.until_waiting(1)
    fleet.nodes[0].holds()

    assert await fleet.answer() == Refuse(2, 404, "model 'tiny' not found")
    assert fleet.queue.ends["given_back"] == 1
    fleet.worker.send(Done(1, 0, "served", 200))
    await wait_until(lambda: not fleet.dispatcher.ledger.total, "the first to end")


async def test_who_waits_for_a_model_that_moves_follows_it(fleet: Fleet) -> None:
    """Deleted where it ran, and there now on another host."""
    fleet.worker.send(Ask(1, "tiny", "chat"))
    assert await fleet.answer() == Grant(1, 0, first=True)
    fleet.worker.send(Ask(2, "tiny", "chat"), Ask(3, "tiny", "chat"))
    await fleet.until_waiting(2)
    fleet.nodes[1].holds(tag("tiny:latest"))
    moved = await fleet.answer()
    assert isinstance(moved, Grant)
    assert (moved.id, moved.backend) == (2, 1)
    fleet.nodes[0].holds()
    await wait_until(lambda: set(fleet.roster.holders(key("tiny"))) == {1}, "the deletion to be seen")

    fleet.worker.send(Done(1, 0, "served", 200), First(2), Done(2, 1, "served", 200))
    last = await fleet.answer()
    assert isinstance(last, Grant)
    assert (last.id, last.backend) == (3, 1)


async def test_a_host_that_says_404_itself_is_believed(fleet: Fleet) -> None:
    """Before its next listing: those who wait for that model there hear the same."""
    fleet.worker.send(Ask(1, "tiny", "chat"))
    assert await fleet.answer() == Grant(1, 0, first=True)
    fleet.worker.send(Ask(2, "tiny", "chat"))
    await fleet.until_waiting(1)
    fleet.nodes[0].holds()
    fleet.worker.send(Done(1, 0, "retryable", 404))

    assert await fleet.answer() == Refuse(2, 404, "model 'tiny' not found")


async def test_clients_that_leave_while_they_wait_cost_nothing(fleet: Fleet) -> None:
    """A hundred of them: the next one gets the slot, and the metrics say what became of the others."""
    fleet.worker.send(*(Ask(number, "tiny", "chat") for number in range(1, 103)))
    assert await fleet.answer() == Grant(1, 0, first=True)
    await fleet.until_waiting(101)
    fleet.worker.send(*(Done(number, -1, "left", 0) for number in range(2, 102)), First(1), Done(1, 0, "served", 200))

    answer = await fleet.answer()
    assert isinstance(answer, Grant)
    assert answer.id == 102
    assert {why: count for why, count in fleet.queue.ends.items() if count} == {"left": 100, "granted": 2}
    assert (len(fleet.queue), fleet.dispatcher.ledger.total) == (0, 1)


async def test_others_leave_traces_in_a_hosts_listing(fleet: Fleet) -> None:
    """Its expires_at moves while nothing of ours is there; a host where it stands still is not suspected, whatever year it thinks it is."""
    fleet.nodes[0].runs(loaded("tiny:latest", expires_at="1999-01-01T00:00:00Z"))
    fleet.nodes[1].runs(loaded("other:latest", "b" * 64))
    await wait_until(lambda: all(fleet.roster.seen[number].loaded for number in (0, 1)), "both to be read")
    fleet.later = SETTLES + 1.0
    fleet.nodes[0].runs(loaded("tiny:latest", expires_at="1999-01-01T00:00:07Z"))

    trust = [fleet.queue.learned.node(number).trust for number in (0, 1)]
    await wait_until(lambda: trust[0].traces == 1, "the trace to be seen")
    assert trust[1].traces == 0
