"""Real hosts that are as fast as somebody says: what they have loaded gets a part of one core, and a load so many bytes per second.

A tiny model answers at once and loads at once on a CPU: nothing of a GPU's times. Held so, its tokens and loads take as long as those of a
large model do, and just as long each time: the kernel enforces both, and gives the hosts what is theirs before anybody else on the machine.
As on a GPU, a load is the disk's matter and a token the processor's: a runner is held to its part of it as soon as it has read its model.
Needs the controllers cpu and blkio of cgroup v1 below /sys/fs/cgroup.
"""

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.lab.machines import LAB

CGROUPS = Path("/sys/fs/cgroup")
# Short against a token, so that they come evenly.
PERIOD_US = 20_000
# Of the processor, where others want it too; 1024 is everybody's.
FIRST = 100_000
# Of the service's user, and of root's where no systemd runs.
STORES = ("usr/share/ollama/.ollama/models", "root/.ollama/models")
# Seconds: short against a load.
LOOK_EVERY = 0.02


class Pace(NamedTuple):
    """`cpu` is a part of one core, `disk` bytes per second."""

    cpu: float
    disk: int


@dataclass(slots=True)
class Runner:
    """A process that loads a model or has it in memory: the file as the machine sees it, and its size."""

    blob: Path
    size: int
    loading: bool = True


class Group(NamedTuple):
    """What a host is held by: the whole Ollama in `disk`, runners that have loaded in `cpu`."""

    cpu: Path
    disk: Path


def _words(pid: int) -> list[str]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    return []


def _tree(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):
                found += map(int, task.read_text().split())
    return found


def _disk() -> str:
    """The numbers of the whole disk that the lab is on: a part of one cannot be limited."""
    number = LAB.stat().st_dev
    folder = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve()
    return ((folder.parent if (folder / "partition").exists() else folder) / "dev").read_text().strip()


@contextmanager
def _group(controller: str, name: str) -> Iterator[Path]:
    """A cgroup; what is still in it at the end goes back to where everybody is."""
    folder = CGROUPS / controller / f"olladist-{name}"
    folder.mkdir(exist_ok=True)
    try:
        yield folder
    finally:
        for pid in _members(folder):
            _move(pid, folder.parent)
        folder.rmdir()


def _members(folder: Path) -> list[int]:
    return [int(pid) for pid in (folder / "cgroup.procs").read_text().split()]


def _move(pid: int, folder: Path) -> None:
    with suppress(OSError):  # it has ended
        (folder / "cgroup.procs").write_text(str(pid))


class SlowHosts:
    """What runs there; `loads` counts how often each host has begun to load a model.

    A file is read from the disk each time, as one that is larger than memory would be: what the kernel keeps of it is dropped as soon
    as nobody has it loaded.
    """

    def __init__(self, groups: Mapping[str, Group]) -> None:
        self.loads = dict.fromkeys(groups, 0)
        self._groups = groups
        self._runners: dict[str, dict[int, Runner]] = {host: {} for host in groups}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        for host in self._groups:
            for home in STORES:
                for blob in (_root(host) / home).glob("blobs/sha256-*"):
                    _forget(blob)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_EVERY):
            for host, group in self._groups.items():
                self._look(host, group)

    def _look(self, host: str, group: Group) -> None:
        before = self._runners[host]
        now: dict[int, Runner] = {}
        for pid in _members(group.disk):
            if runner := before.get(pid) or _runner(host, pid):
                now[pid] = runner
                if runner.loading and _has_read(pid) >= runner.size:
                    runner.loading = False
                    _move(pid, group.cpu)
        self.loads[host] += len(now.keys() - before.keys())
        for blob in {runner.blob for runner in before.values()} - {runner.blob for runner in now.values()}:
            _forget(blob)
        self._runners[host] = now


def _root(host: str) -> Path:
    return LAB / "hosts" / host / "root"


def _runner(host: str, pid: int) -> Runner | None:
    words = _words(pid)
    if "--model" not in words:
        return None
    blob = _root(host) / words[words.index("--model") + 1].lstrip("/")
    return Runner(blob, blob.stat().st_size)


def _has_read(pid: int) -> int:
    """Bytes of any file."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/io").read_text().split()[1])
    return 0


def _forget(blob: Path) -> None:
    """Out of the page cache."""
    with suppress(FileNotFoundError):
        file = os.open(blob, os.O_RDONLY)
        try:
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)


def _server(host: str) -> int:
    """The process id of the host's `ollama serve`, as the machine sees it."""
    init = int((LAB / "hosts" / host / "init").read_text())
    servers = [pid for pid in _tree(init) if _words(pid)[1:2] == ["serve"]]
    assert len(servers) == 1, f"{host} runs {len(servers)} Ollamas"
    return servers[0]


@contextmanager
def held(paces: Mapping[str, Pace]) -> Iterator[SlowHosts]:
    """The hosts, which run an Ollama each, at these paces, until the end of the block; so is this process and what it starts.

    All of these get the processor before others of the machine do.
    """
    disk = _disk()
    with ExitStack() as stack:
        first = stack.enter_context(_group("cpu", "first"))
        (first / "cpu.shares").write_text(str(FIRST))
        _move(os.getpid(), first)
        groups: dict[str, Group] = {}
        for host, pace in paces.items():
            group = Group(*(stack.enter_context(_group(controller, host)) for controller in ("cpu", "blkio")))
            _limit(group, pace, disk)
            server = _server(host)
            _move(server, first)
            _move(server, group.disk)
            groups[host] = group
        hosts = SlowHosts(groups)
        hosts.start()
        stack.callback(hosts.stop)
        yield hosts


def _limit(group: Group, pace: Pace, disk: str) -> None:
    (group.cpu / "cpu.cfs_period_us").write_text(str(PERIOD_US))
    (group.cpu / "cpu.cfs_quota_us").write_text(str(int(PERIOD_US * pace.cpu)))
    (group.cpu / "cpu.shares").write_text(str(FIRST))
    (group.disk / "blkio.throttle.read_bps_device").write_text(f"{disk} {pace.disk}")
