"""What was found on a host, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Sudo(StrEnum):
    """How the login user becomes root."""

    ROOT = "root"  # it is root
    PASSWORDLESS = "passwordless"
    PASSWORD = "password"  # noqa: S105  a word, not one; likely: it is in a group that distributions let use sudo
    UNKNOWN = "unknown"  # sudo is there and asks for a password; only that would tell
    NONE = "none"


class Origin(StrEnum):
    """Who put an Ollama there."""

    OLLADIST = "olladist"
    OFFICIAL = "official installer"
    PACKAGE = "package"
    SNAP = "snap"
    MANUAL = "by hand"


@dataclass(frozen=True, slots=True)
class Gpu:
    """`uuid` is what CUDA_VISIBLE_DEVICES or ROCR_VISIBLE_DEVICES take, "" where none is known; `vram_bytes` 0: unknown."""

    index: int
    vendor: str  # "nvidia" or "amd"
    name: str
    uuid: str
    vram_bytes: int
    vram_free_bytes: int | None
    driver: str


@dataclass(frozen=True, slots=True)
class Process:
    """A running process; `environ` (OLLAMA_*, OLLADIST_* and HOME) is None where we may not read it."""

    pid: int
    group: int
    user: str
    command: str
    binary: str
    start: int  # clock ticks after boot, field 22 of /proc/PID/stat: tells a process from a later one with its pid
    since: int  # seconds of the epoch
    unit: str  # the systemd service that it belongs to, of the system or of a user
    unit_scope: str
    environ: Mapping[str, str] | None

    @property
    def revision(self) -> str | None:
        """The OLLADIST_REVISION it was started with; "" where it has none, None where that cannot be read."""
        return None if self.environ is None else self.environ.get("OLLADIST_REVISION", "")


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening TCP socket; `pid` None where only root could say."""

    port: int
    address: str
    uid: int
    pid: int | None


@dataclass(frozen=True, slots=True)
class Unit:
    """A systemd service named ollama…; what it says of itself without our drop-in."""

    name: str
    scope: str  # "system" or "user"
    path: str  # of the unit file, "" where systemd has none loaded
    ours: bool  # we wrote the unit file
    binary: str
    user: str
    environment: Mapping[str, str]
    environment_files: tuple[str, ...]
    drop_ins: tuple[str, ...]  # others than ours
    late_command: str  # a drop-in that sets ExecStart and is read after ours
    active: str  # ActiveState: active, activating, inactive, failed …
    enabled: bool | None  # at boot; None where that cannot be switched: a unit without [Install], a masked one
    needs_reload: bool
    pid: int | None
    restarts: int


@dataclass(frozen=True, slots=True)
class Binary:
    """An executable `ollama`; `real` is the file behind the links."""

    path: str
    real: str
    version: str  # "" where it could not be run
    origin: Origin
    package: str


@dataclass(frozen=True, slots=True)
class Prefix:
    """A directory that olladist installs into."""

    path: str
    releases: tuple[str, ...]
    current: str  # name of the release that `current` leads to, "" where there is none
    stage: tuple[str, ...]  # what an interrupted installation has left
    made: tuple[str, ...]  # what else we did on the host: "linger"


@dataclass(frozen=True, slots=True)
class Detached:
    """The directory of a server that runs under our own supervisor."""

    path: str
    port: int
    pid: int | None  # of the supervisor, None where it does not run
    server: int | None  # of the Ollama it has started, None where that does not run
    restarts: int


@dataclass(frozen=True, slots=True)
class PathFact:
    """A path, whether or not it exists yet, and the file system it is or would be on."""

    exists: bool
    link: str  # where it leads, "" where it is no link
    owner: str
    group: str
    directory: bool
    writable: bool  # by whom the facts were read as
    free_bytes: int | None
    noexec: bool
    read_only: bool


@dataclass(frozen=True, slots=True)
class Account:
    name: str
    uid: int
    home: str


@dataclass(frozen=True, slots=True)
class Facts:
    """One host as it was found."""

    # The machine
    os_name: str  # ID of os-release: "debian"
    os_version: str
    os_title: str
    system: str  # uname -s
    kernel: str
    machine: str  # uname -m
    arch: str  # "amd64", "arm64", or uname -m where Ollama has no name for it
    hostname: str
    ram_bytes: int
    gpus: tuple[Gpu, ...]
    gpu_problem: str
    jetpack: str  # "5" or "6" on a Jetson
    init: str  # "systemd" or "none"
    system_state: str  # systemctl is-system-running
    tools: tuple[str, ...]

    # Who we are there
    user: str
    uid: int
    home: str
    sudo: Sudo
    sudo_problem: str
    as_root: bool  # the facts were read as root
    user_systemd: bool
    linger: bool
    can_linger: bool
    kills_user_processes: bool

    # What is there
    paths: Mapping[str, PathFact]
    accounts: Mapping[str, Account]
    made_user: bool  # the account `ollama` is of our making
    groups: Mapping[str, tuple[str, ...]]  # ollama, render, video: their members
    listeners: tuple[Listener, ...]
    processes: Mapping[int, Process]
    units: tuple[Unit, ...]
    binaries: tuple[Binary, ...]
    prefixes: Mapping[str, Prefix]
    detached: tuple[Detached, ...]
    hashes: Mapping[str, str] = field(default_factory=dict)  # sha256 of the files that we write

    def unit(self, scope: str, name: str) -> Unit | None:
        return next((unit for unit in self.units if unit.scope == scope and unit.name == name), None)

    def process(self, pid: int | None) -> Process | None:
        return None if pid is None else self.processes.get(pid)

    @property
    def root(self) -> bool:
        """Commands can be run as root, perhaps after a password."""
        return self.sudo in {Sudo.ROOT, Sudo.PASSWORDLESS, Sudo.PASSWORD}
