"""What a request costs in Python alone: no socket, no kernel, no other process, so that a change of some percent can be seen on any machine.

Once in a loop, as in a flood; and once after a walk through more memory than caches hold, as between the lines of 200 other streams.
"""

import asyncio
import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import structlog
import uvloop

from bench import markdown
from bench.load import Load, request
from bench.proxies import KEY
from olladist.gateway.access import digest_of
from olladist.gateway.control.answers import Row
from olladist.gateway.control.backends import Backend
from olladist.gateway.control.dispatcher import Dispatcher
from olladist.gateway.control.lease_server import LeaseServer
from olladist.gateway.control.lease_server import Worker as Connection
from olladist.gateway.control.roster import Roster
from olladist.gateway.edge.backends import Backends
from olladist.gateway.edge.downstream import Downstream
from olladist.gateway.edge.inference import begin
from olladist.gateway.edge.leases import Leases
from olladist.gateway.edge.upstream import Upstream
from olladist.gateway.edge.worker import Worker
from olladist.gateway.lease import (
    Access,
    Ask,
    Done,
    Grant,
    Hello,
    Key,
    Table,
    ToControl,
    ToWorker,
    Unpacker,
    Usage,
    pack,
)
from olladist.gateway.lease import Backend as Listed
from olladist.gateway.settings import Settings
from olladist.inventory.model import Host, Strategy
from olladist.ollama.names import parse_name

MODEL = parse_name("stub").key
ANSWER = (
    b'{"model":"stub","created_at":"2026-01-01T00:00:00Z","response":"%b","done":true,"done_reason":"stop","total_duration":123456,'
    b'"load_duration":1234,"prompt_eval_count":5,"prompt_eval_duration":1000,"eval_count":7,"eval_duration":2000}'
    % (b"x" * 360)
)
# More than the last level of any cache has for one core.
WALK_BYTES = 64 * 2**20
LINE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Sizes:
    rounds: int
    requests: int  # of each round
    cold: int


SIZES = {"full": Sizes(40, 500, 100), "quick": Sizes(10, 500, 30), "tiny": Sizes(1, 20, 2)}


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.out: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.out.append(data)

    def writelines(self, parts: list[bytes]) -> None:
        self.out.append(b"".join(parts))

    def get_extra_info(self, name: str) -> tuple[str, int]:
        return "127.0.0.1", 1

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, **limits: int) -> None: ...

    def abort(self) -> None: ...


def given(protocol: asyncio.Protocol) -> Transport:
    """The protocol is connected."""
    transport = Transport()
    protocol.connection_made(cast("asyncio.Transport", transport))
    return transport


def a_worker() -> Callable[[int], None]:
    """One worker with one backend and a lease that goes from each request to the next; what is given has it serve one."""
    backends = Backends()
    leases = Leases(1, "", backends)
    settings = Settings("", "", listen_host="127.0.0.1", listen_port=11434)
    worker = Worker(settings, asyncio.get_running_loop(), backends, leases)
    given(leases)
    access = Access((Key("bench", digest_of(KEY.encode())),))
    row = Listed(1, "gpu1", "127.0.0.1:9", 1000, up=True, models=(MODEL,))
    leases.data_received(pack(access) + pack(Table(1, "distributed", (row,), late=True)))
    backend = backends.get(1)
    assert backend is not None
    upstream = Upstream(backend.pool)
    sent = given(upstream)
    backend.pool.idle.append(upstream)
    client = Downstream(worker, begin, lambda _: None, lambda _: None)
    got = given(client)
    message = request(Load(11434, 1, 1, key=KEY))
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        len(ANSWER),
        ANSWER,
    )

    def serve(number: int) -> None:
        client.data_received(message % number)
        if not sent.out:  # a lease is good for a moment
            lease = getattr(client.exchange, "lease", 0)
            leases.data_received(pack(Grant(lease, 1, again=True)))
        sent.out.clear()
        upstream.data_received(answer)
        assert got.out.pop().endswith(ANSWER[-20:])

    return serve


def a_control_process() -> Callable[[int], None]:
    """One with three nodes that have the model in memory; what is given has it place a stream and hear of its end."""
    now = asyncio.get_running_loop().time
    roster = Roster(now)
    server = LeaseServer(Dispatcher(roster, Strategy.ADAPTIVE, now), _nothing)
    hosts = [Host(name=f"gpu{number}", address="x", env={}) for number in range(3)]
    roster.swap([Backend(n, host.name, host, 11434, f"{host.name}:11434", 1000) for n, host in enumerate(hosts)])
    row = Row(MODEL, "a" * 64, 1.0, {"name": "stub:latest", "size": 8 * 10**9})
    for number in roster.backends:
        roster.probed(number, "", "0.17.4")
        roster.listed(number, (row,))
        roster.loaded(number, (row,))
    connection = Connection(server, 1)
    said = given(connection)
    unpacker: Unpacker[ToWorker] = Unpacker(ToWorker)
    usage = Usage(5, 100, 0.001, 0.01, 1.0)

    def hear(message: ToControl) -> list[ToWorker]:
        connection.data_received(pack(message))
        connection._flush()
        answers, said.out = unpacker.feed(b"".join(said.out)), []
        return answers

    hear(Hello(1, 1))

    def place(number: int) -> None:
        grant = hear(Ask(number + 1, "stub", "generate", key="bench"))[-1]
        assert isinstance(grant, Grant)
        hear(Done(number + 1, grant.backend, "served", 200, 0.01, 2.0, 9000, usage))

    return place


async def _nothing() -> None:
    pass


async def in_a_loop(work: Callable[[int], None], sizes: Sizes) -> float:
    """µs each: the least of all rounds, for others on the machine only add to it."""
    best = float("inf")
    for turn in range(sizes.rounds + 1):
        begun = time.perf_counter()
        for number in range(sizes.requests):
            work(turn * sizes.requests + number)
        best = min(best, (time.perf_counter() - begun) / sizes.requests)
        await asyncio.sleep(0.001)  # timers are due
    return best * 1e6


def with_cold_caches(work: Callable[[int], None], sizes: Sizes) -> float:
    """µs each: the median."""
    memory = bytearray(WALK_BYTES)
    taken = []
    for number in range(sizes.cold):
        for at in range(0, WALK_BYTES, LINE_BYTES):
            memory[at] = number & 255
        begun = time.perf_counter()
        work(10**6 + number)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken) * 1e6


async def measured(sizes: Sizes) -> dict[str, tuple[float, float]]:
    costs = {}
    for name, made in (("worker: a small request", a_worker), ("control process: a stream", a_control_process)):
        work = made()
        costs[name] = await in_a_loop(work, sizes), with_cold_caches(work, sizes)
    return costs


def run(sizes: Sizes) -> dict[str, tuple[float, float]]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    return uvloop.run(measured(sizes))


def table(costs: dict[str, tuple[float, float]]) -> str:
    rows = [[name, f"{loop:.1f} µs", f"{cold:.0f} µs"] for name, (loop, cold) in costs.items()]
    return markdown.table(["Python alone", "in a loop", "caches cold"], rows)
