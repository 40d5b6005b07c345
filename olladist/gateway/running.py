"""Which gateways of an inventory run: each leaves a note in the state directory, and holds a lock for as long as it lives.

A lock cannot outlive its process, and no other process that gets the same number has it: so a note is believed while the lock in
the run directory that it names is held, and taken away otherwise.
"""

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from msgspec import field

from olladist import places
from olladist.gateway.settings import Settings

_LOCK = "lock"


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway that runs; `since` is in Unix seconds. `machine`: a home directory may be shared by several, whose locks say nothing here."""

    pid: int
    url: str
    host: str
    port: int
    run_dir: str
    inventory: str
    since: float
    version: str
    machine: str = field(default_factory=platform.node)

    @property
    def settings(self) -> Settings:
        """For the paths of its sockets."""
        return Settings(self.run_dir, self.inventory, listen_host=self.host, listen_port=self.port)


def inventory_id(inventory: Path) -> str:
    """What files about the gateways of an inventory are called; two inventories never share it."""
    return hashlib.sha256(str(inventory.absolute()).encode()).hexdigest()[:16]


def notes_dir() -> Path:
    directory = places.state_dir() / "gateway"
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory


@contextlib.contextmanager
def alive(run_dir: Path) -> Iterator[None]:
    """Says to everybody that the gateway of this run directory lives. The lock has its name only once it is held."""
    new = run_dir / f"{_LOCK}.new"
    descriptor = os.open(new, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        new.rename(run_dir / _LOCK)
        yield
    finally:
        os.close(descriptor)


def is_alive(run_dir: Path) -> bool:
    try:
        descriptor = os.open(run_dir / _LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def announced(running: Running) -> Iterator[None]:
    """Lets `find` find it."""
    whose = f"{running.machine}.{running.pid}"
    path = notes_dir() / f"{inventory_id(Path(running.inventory))}.{whose}.running.json"
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_bytes(msgspec.json.encode(running))
    new.rename(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def find(inventory: Path) -> tuple[Running, ...]:
    """The gateways of an inventory that run on this machine, the oldest first; notes of dead ones are taken away."""
    found = []
    for path in notes_dir().glob(f"{inventory_id(inventory)}.*.running.json"):
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            running = msgspec.json.decode(path.read_bytes(), type=Running)
            elsewhere = running.machine != platform.node()
            if elsewhere or is_alive(Path(running.run_dir)):
                found += [] if elsewhere else [running]
                continue
        path.unlink(missing_ok=True)
    return tuple(sorted(found, key=lambda running: (running.since, running.pid)))


def sweep(directories: Iterable[Path]) -> list[Path]:
    """Removes the run directories of gateways that were killed; returns them. What was never a gateway's is left alone."""
    swept = []
    for directory in directories:
        with contextlib.suppress(OSError):
            state = directory.lstat()
            lock = directory / _LOCK
            if state.st_uid != os.getuid() or not directory.is_dir() or directory.is_symlink() or not lock.is_file():
                continue
            if not is_alive(directory):
                shutil.rmtree(directory)
                swept.append(directory)
    return swept
