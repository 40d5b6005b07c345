"""Real hosts that are as fast as somebody says: their Ollama gets a part of one core, and so many bytes per second from the disk.

A tiny model answers at once and loads at once on a CPU: nothing of a GPU's times. Held so, its tokens and loads take as long as those of a
large model do, and just as long each time: the kernel enforces both, and gives the hosts what is theirs before anybody else on the machine.
Needs the controllers cpu and blkio of cgroup v1 below /sys/fs/cgroup.
"""

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
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
# The time in which a runner comes and goes is longer.
LOOK_EVERY = 0.05


class Pace(NamedTuple):
    """`cpu` is a part of one core, `disk` bytes per second."""

    cpu: float
    disk: int


class Runner(NamedTuple):
    """A process that has a model in memory, or loads it, and the file that it reads, as the machine sees it."""

    pid: int
    blob: Path


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
def group(name: str) -> Iterator[Mapping[str, Path]]:
    """A cgroup of this name for each controller; it must be empty of processes at the end."""
    folders = {controller: CGROUPS / controller / f"olladist-{name}" for controller in ("cpu", "blkio")}
    for folder in folders.values():
        folder.mkdir(exist_ok=True)
    try:
        yield folders
    finally:
        for folder in folders.values():
            for pid in (folder / "cgroup.procs").read_text().split():
                with suppress(OSError):  # it has ended meanwhile
                    (folder.parent / "cgroup.procs").write_text(pid)
            folder.rmdir()


class SlowHosts:
    """What runs there; `loads` counts how often each host has begun to load a model.

    A file is read from the disk each time, as one that is larger than memory would be: what the kernel keeps of it is dropped as soon
    as nobody has it loaded.
    """

    def __init__(self, groups: Mapping[str, Path]) -> None:
        self.loads = dict.fromkeys(groups, 0)
        self._groups = groups
        self._runners: dict[str, dict[int, Path]] = {host: {} for host in groups}
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
            for host, folder in self._groups.items():
                self._look(host, folder)

    def _look(self, host: str, folder: Path) -> None:
        before = self._runners[host]
        now: dict[int, Path] = {}
        for pid in map(int, (folder / "cgroup.procs").read_text().split()):
            if blob := before.get(pid) or _model(host, pid):
                now[pid] = blob
        self.loads[host] += len(now.keys() - before.keys())
        for blob in set(before.values()) - set(now.values()):
            _forget(blob)
        self._runners[host] = now


def _root(host: str) -> Path:
    return LAB / "hosts" / host / "root"


def _model(host: str, pid: int) -> Path | None:
    words = _words(pid)
    return _root(host) / words[words.index("--model") + 1].lstrip("/") if "--model" in words else None


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
    """The hosts, which run an Ollama each, at these paces, until the end of the block; its runners are to be gone by then."""
    disk = _disk()
    with ExitStack() as stack:
        groups: dict[str, Path] = {}
        for host, pace in paces.items():
            folders = stack.enter_context(group(host))
            _limit(folders, pace, disk)
            for folder in folders.values():
                (folder / "cgroup.procs").write_text(str(_server(host)))
            groups[host] = folders["cpu"]
        hosts = SlowHosts(groups)
        hosts.start()
        stack.callback(hosts.stop)
        yield hosts


def _limit(folders: Mapping[str, Path], pace: Pace, disk: str) -> None:
    (folders["cpu"] / "cpu.cfs_period_us").write_text(str(PERIOD_US))
    (folders["cpu"] / "cpu.cfs_quota_us").write_text(str(int(PERIOD_US * pace.cpu)))
    (folders["cpu"] / "cpu.shares").write_text(str(FIRST))
    (folders["blkio"] / "blkio.throttle.read_bps_device").write_text(f"{disk} {pace.disk}")


@contextmanager
def first_served() -> Iterator[None]:
    """This process and what it starts get the processor before others of the machine do."""
    with group("bench") as folders:
        (folders["cpu"] / "cpu.shares").write_text(str(FIRST))
        (folders["cpu"] / "cgroup.procs").write_text(str(os.getpid()))
        yield
