"""Both ends of the lease wire with everything in between that can happen, in virtual time: leases are handed on, and no slot is given twice."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from olladist.gateway.control.answers import Row
from olladist.gateway.control.backends import Backend as Known
from olladist.gateway.control.dispatcher import Dispatcher
from olladist.gateway.control.lease_server import LeaseServer
from olladist.gateway.control.lease_server import Worker as Connection
from olladist.gateway.control.roster import Roster
from olladist.gateway.edge.asked import NOTHING
from olladist.gateway.edge.backends import Backend, Backends, Lent, kind_of
from olladist.gateway.edge.leases import Leases
from olladist.gateway.lease import NO_USAGE, Grant
from olladist.inventory.model import Host, Strategy
from olladist.ollama.names import parse_name
from olladist.ollama.routes import ROUTES, Route

MODELS = ("tiny", "other")
OFTEN = ("tiny", "tiny", "tiny", "other")
NODES = {0: 2, 1: 2}  # and their slots
WORKERS = (0, 1)
ROUTE = next(route for route in ROUTES if route.name == "chat")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time goes on when somebody says so."""

    now = 1000.0

    def time(self) -> float:
        return self.now


class Pipe:
    """One way of a connection: what was written lies here until it is delivered."""

    def __init__(self) -> None:
        self.written: deque[bytes] = deque()
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        self.closed = True


class Asker:
    """A request, as far as leases see it."""

    only, load, tried = "", False, list[str]()
    wants, options = NOTHING, ""

    def __init__(self, worker: int, model: str, near: int, *, begins: bool) -> None:
        self.worker, self.model, self.near, self.begins = worker, model, near, begins
        self.lease, self.lent, self.asked_at = 0, cast("Lent | None", None), 0.0
        self.backend: Backend | None = None
        self.loads = False
        self.answers = 0
        self.kind = kind_of(model, ROUTE, NOTHING, near, "", begins=begins)

    @property
    def route(self) -> Route:
        return ROUTE

    def granted(self, backend: Backend, grant: Grant) -> None:
        self.answers += 1
        self.backend, self.loads = backend, grant.first

    def refused(self, status: int, text: str, retry_after: int) -> None:
        raise AssertionError(f"{status} {text}")

    def backend_went_down(self) -> None:
        raise AssertionError("no node goes down here")


class Wire(RuleBasedStateMachine):
    """Two workers, and two nodes of two slots, each of which has one of two models in its memory at a time."""

    @initialize()
    def begin(self) -> None:
        self.loop = VirtualLoop()
        self.roster = Roster(self.loop.time)
        self.dispatcher = Dispatcher(self.roster, Strategy.ADAPTIVE, self.loop.time)
        self.server = LeaseServer(self.dispatcher, self.nothing_new)
        hosts = [Host(name=f"gpu{n}", address="x", env={"OLLAMA_MAX_LOADED_MODELS": "1"}) for n in NODES]
        self.roster.swap([Known(n, h.name, h, 11434, f"{h.name}:1", NODES[n]) for n, h in enumerate(hosts)])
        rows = tuple(Row(parse_name(m).key, m[0] * 64, 1.0, {"name": f"{m}:latest", "size": 10**9}) for m in MODELS)
        for number in NODES:
            self.roster.probed(number, "", "0.17.4")
            self.roster.listed(number, rows)
        self.asked: list[Asker] = []
        self.leases: dict[int, Leases] = {}
        self.ends: dict[int, Connection] = {}
        self.pipes: dict[int, tuple[Pipe, Pipe]] = {}
        self.connections = 0
        for worker in WORKERS:
            self.do(self.connect, worker)

    async def nothing_new(self) -> None:
        raise AssertionError("every model is known")

    def do(self, what: Callable[..., object], *arguments: object) -> None:
        """And what follows from it in the same turns of the loop."""

        async def doing() -> None:
            what(*arguments)
            for _ in range(4):
                await asyncio.sleep(0)

        self.loop.now += 0.0001
        self.loop.run_until_complete(doing())

    def connect(self, worker: int) -> None:
        self.connections += 1
        backends = Backends(len(WORKERS))
        self.leases[worker] = Leases(worker, "", backends)
        self.ends[worker] = Connection(self.server, self.connections)
        to_control, to_worker = self.pipes[worker] = Pipe(), Pipe()
        self.leases[worker].connection_made(cast("asyncio.Transport", to_control))
        self.ends[worker].connection_made(cast("asyncio.Transport", to_worker))
        while to_control.written:
            self.ends[worker].data_received(to_control.written.popleft())
        self.ends[worker]._flush()
        while to_worker.written:
            self.leases[worker].data_received(to_worker.written.popleft())

    def deliver(self, worker: int, way: int) -> bool:
        """What was written first on one of the two ways of a connection arrives."""
        pipe = self.pipes[worker][way]
        if not pipe.written:
            return False
        ends = (self.ends[worker], self.leases[worker])
        self.do(ends[way].data_received, pipe.written.popleft())
        assert not any(each.closed for each in self.pipes[worker]), "an end has broken the rules"
        return True

    # What happens.

    @rule(
        worker=st.sampled_from(WORKERS),
        models=st.lists(st.sampled_from(OFTEN), min_size=1, max_size=3),
        near=st.sampled_from([0, 0, 0, 1, 2]),
        begins=st.booleans(),
        arrive=st.booleans(),
    )
    def ask(self, worker: int, models: list[str], near: int, begins: bool, arrive: bool) -> None:
        for model in models:
            asker = Asker(worker, model, near, begins=begins and near > 0)
            self.asked.append(asker)
            self.do(self.leases[worker].ask, asker)
        if arrive:
            self.everything_arrives()

    @rule(worker=st.sampled_from(WORKERS), way=st.integers(0, 1))
    def arrives(self, worker: int, way: int) -> None:
        self.deliver(worker, way)

    @rule()
    def everything_arrives(self) -> None:
        while any(self.deliver(worker, way) for worker in WORKERS for way in (0, 1)):
            pass

    @rule(which=st.integers(0, 20))
    def is_served(self, which: int) -> None:
        if running := [each for each in self.asked if each.backend is not None]:
            self.end(running[which % len(running)])

    @rule(arrive=st.booleans())
    def all_are_served(self, arrive: bool) -> None:
        """What runs, and what comes after it."""
        while running := [each for each in self.asked if each.backend is not None]:
            for each in running:
                self.end(each)
            if arrive:
                self.everything_arrives()

    @rule(which=st.integers(0, 20))
    def client_leaves(self, which: int) -> None:
        if self.asked:
            asker = self.asked[which % len(self.asked)]
            if asker.backend is not None:
                self.end(asker, outcome="left")
            else:
                self.asked.remove(asker)
                self.do(self.leases[asker.worker].forget, asker)

    @rule(later=st.sampled_from([0.001, 0.01, 0.02, 0.06, 2.0]))
    def time_passes(self, later: float) -> None:
        self.loop.now += later
        self.do(self.dispatcher.tick if later > 1 else lambda: None)

    @rule(worker=st.sampled_from(WORKERS), dies=st.sampled_from([True, False, False, False]))
    def dies(self, worker: int, dies: bool) -> None:
        """With all its requests; another one comes in its place. Not too often."""
        if not dies:
            return
        self.asked = [each for each in self.asked if each.worker != worker]
        self.do(self.ends[worker].connection_lost, None)
        self.do(self.connect, worker)

    def end(self, asker: Asker, outcome: str = "served") -> None:
        self.asked.remove(asker)
        backend, leases = asker.backend, self.leases[asker.worker]
        assert backend is not None
        if asker.loads:
            self.do(leases.first, asker)
        self.do(leases.done, asker, backend, outcome, 200, 0.1, 0.2, 100, NO_USAGE, self.loop.now)

    # What must hold.

    @invariant()
    def no_slot_is_given_twice(self) -> None:
        """By what runs, and by what the control process counts."""
        runs = Counter((each.backend.node, each.model) for each in self.asked if each.backend is not None)
        assert all(count <= NODES[int(node[-1])] for (node, _), count in runs.items())
        assert all(each.answers <= 1 for each in self.asked)
        running = sum(each.backend is not None for each in self.asked)
        assert self.dispatcher.ledger.total >= running

    @invariant()
    def nothing_is_lent_while_somebody_waits(self) -> None:
        if len(self.dispatcher.queue):
            assert not self.dispatcher.reserve._lent
            if not any(pipe.written for pipes in self.pipes.values() for pipe in pipes):
                assert not any(leases._spare for leases in self.leases.values())

    def teardown(self) -> None:
        """Whatever has happened: when everything that is said arrives and every answer ends, all are served and all slots are free."""
        if not hasattr(self, "loop"):
            return
        for _ in range(400):
            self.everything_arrives()
            for asker in [each for each in self.asked if each.backend is not None]:
                self.end(asker)
            self.loop.now += 0.5
            self.do(self.dispatcher.tick)
            if not self.asked and not self.dispatcher.ledger.total:
                break
        waiting, total = self.server.waiting, self.dispatcher.ledger.total
        self.loop.close()
        assert (self.asked, waiting, total) == ([], 0, 0)


TestLeases = Wire.TestCase
TestLeases.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
