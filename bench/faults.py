"""kill -9 of the control process, and then of one worker of two, while a thousand streams run and new requests keep coming.

What was streamed through others has to go on and be whole, else the run fails; new requests are served in between. Each new request comes on
a connection of its own, so that either worker may get it, and does not wait for the one before. Which worker has a stream is read from the
system's table of connections before that worker is killed.
"""

import asyncio
import itertools
import os
import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from bench import cpu, markdown, proxies, stub
from bench.load import Load, request
from bench.processes import LOAD_CORE, backends
from bench.proxies import KEY, Proxy
from olladist.sim.hosts import free_ports

BACKENDS, WORKERS = 3, 2


@dataclass(frozen=True, slots=True)
class Sizes:
    """Seconds: `every` between lines of a stream, `phase` before each kill and after the last, `pause` between new requests."""

    streams: int
    every: float
    phase: float
    pause: float

    @property
    def lines(self) -> int:
        """So many that streams last until the third phase is over, whenever they were opened."""
        return int((3 * self.phase + 4) / self.every)


FULL = Sizes(streams=1_000, every=0.5, phase=6, pause=0.01)
SIZES = {"full": FULL, "quick": FULL, "tiny": Sizes(streams=20, every=0.1, phase=1.2, pause=0.02)}


@dataclass
class Phase:
    """What came to an end in it: `lost` streams of which `wrongly` so many were with a worker that lives; new requests by how they
    ended, with the time of each that was served and what it took.
    """

    name: str
    since: float
    lost: int = 0
    wrongly: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    served: list[tuple[float, float]] = field(default_factory=list)

    def gap(self, until: float) -> float:
        """The longest time without a new request that was served."""
        moments = [self.since, *sorted(at for at, _ in self.served), until]
        return max(after - before for before, after in itertools.pairwise(moments))


class Trial:
    def __init__(self, proxy: Proxy, sizes: Sizes) -> None:
        self.proxy, self.sizes = proxy, sizes
        self.phases = [Phase("before", time.monotonic())]
        self.killed: set[int] = set()  # ports of clients whose worker was killed
        self.open = 0
        self.all_open = asyncio.Event()

    async def stream(self, message: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.proxy.port)
        port = writer.get_extra_info("sockname")[1]
        answer = bytearray()
        try:
            writer.write(message)
            self.open += 1
            if self.open == self.sizes.streams:
                self.all_open.set()
            while data := await reader.read(65536):
                answer += data
                if answer.endswith(b"\r\n0\r\n\r\n"):
                    break
        except OSError:
            pass  # the lines that came say what was lost
        finally:
            writer.close()
        if answer.count(b'"done": ') != self.sizes.lines + 1:
            phase = self.phases[-1]
            phase.lost += 1
            phase.wrongly += port not in self.killed

    async def new(self, message: bytes) -> None:
        begun, phase = time.monotonic(), self.phases[-1]
        try:
            async with asyncio.timeout(30):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.proxy.port)
                try:
                    writer.write(message)
                    head = await reader.readuntil(b"\r\n\r\n")
                    status = head[9:12].decode()
                    if status == "200":
                        await reader.readexactly(stub.SMALL_BYTES)
                finally:
                    writer.close()
        except TimeoutError:
            phase.failed["no answer within 30 s"] += 1
        except asyncio.IncompleteReadError as error:
            phase.failed["closed in the middle" if error.partial else "closed without an answer"] += 1
        except OSError as error:
            phase.failed[error.strerror or type(error).__name__] += 1
        else:
            if status == "200":
                phase.served.append((time.monotonic(), time.monotonic() - begun))
            else:
                phase.failed[status] += 1

    async def arrivals(self, message: bytes) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(int(3 * self.sizes.phase / self.sizes.pause)):
                tasks.create_task(self.new(message % number))
                await asyncio.sleep(self.sizes.pause)

    async def run(self) -> None:
        sizes, port = self.sizes, self.proxy.port
        streamed = request(Load(port, 1, 1, key=KEY, lines=sizes.lines, every=sizes.every))
        small = request(Load(port, 1, 1, key=KEY))
        async with asyncio.TaskGroup() as tasks:
            for number in range(sizes.streams):
                tasks.create_task(self.stream(streamed % number))
                if number % 20 == 19:
                    await asyncio.sleep(0.02)
            await self.all_open.wait()
            self.phases[0].since = time.monotonic()
            tasks.create_task(self.arrivals(small))
            await asyncio.sleep(sizes.phase)
            self.kill("control process", "olladist.gateway.control")
            await asyncio.sleep(sizes.phase)
            self.kill("worker", "olladist.gateway.edge")
            await asyncio.sleep(sizes.phase)
            self.ended = time.monotonic()

    def kill(self, name: str, module: str) -> None:
        pid = next(pid for pid in self.proxy.pids() if module in Path(f"/proc/{pid}/cmdline").read_text())
        if name == "worker":
            self.killed = clients_of(pid, self.proxy.port)
        self.phases.append(Phase(f"{name} killed", time.monotonic()))
        os.kill(pid, signal.SIGKILL)


def clients_of(pid: int, port: int) -> set[int]:
    """Ports of the clients that a process has a connection with, on a port of its own: proc(5), /proc/net/tcp."""
    descriptors = Path(f"/proc/{pid}/fd").iterdir()
    mine = {str(each.readlink()).removeprefix("socket:[").removesuffix("]") for each in descriptors}
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(row[2][-4:], 16) for row in rows if int(row[1][-4:], 16) == port and row[9] in mine}


def run(sizes: Sizes) -> Trial:
    """Raises RuntimeError where a stream was lost that was not with the worker that was killed."""
    os.sched_setaffinity(0, {LOAD_CORE})
    ports = free_ports(BACKENDS)
    with (
        tempfile.TemporaryDirectory(prefix="olladist-bench-") as scratch,
        backends(ports, Path(scratch)),
        proxies.started("olladist", Path(scratch) / "olladist", ports, workers=WORKERS) as proxy,
    ):
        trial = Trial(proxy, sizes)
        uvloop.run(trial.run())
        alive = [Path(f"/proc/{pid}/cmdline").read_text() for pid in cpu.tree(proxy.process.pid)]
    wrong = {phase.name: phase.wrongly for phase in trial.phases if phase.wrongly}
    if wrong:
        raise RuntimeError(f"streams were lost that nobody had touched: {wrong}")
    if sum("olladist.gateway.edge" in words for words in alive) != WORKERS:
        raise RuntimeError("the worker that was killed has not come back")
    return trial


def table(trial: Trial) -> str:
    head = [f"{trial.sizes.streams} streams", "streams lost", "new requests served", "failed", "slowest"]
    rows = []
    ends = [phase.since for phase in trial.phases[1:]] + [trial.ended]
    for phase, until in zip(trial.phases, ends, strict=True):
        failed = ", ".join(f"{count} × {what}" for what, count in phase.failed.items()) or "0"
        slowest = max((took for _, took in phase.served), default=float("nan"))
        cells = [str(phase.lost), str(len(phase.served)), failed, f"{slowest:.2f} s", f"{phase.gap(until):.2f} s"]
        rows.append([phase.name, *cells])
    text = markdown.table([*head, "longest time without one served"], rows)
    return f"{text}\n\nThe worker that was killed had {trial.phases[-1].lost} of the streams; all others were whole."
