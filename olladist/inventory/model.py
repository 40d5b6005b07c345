"""What the operator declared, resolved: every host holds its final values (host over groups over defaults)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from olladist.ollama.names import ModelName

OLLAMA_PORT = 11434


class Connection(StrEnum):
    SSH = "ssh"
    LOCAL = "local"


class HostKeys(StrEnum):
    """What to do with a host key nobody has seen; a changed key is refused whatever stands here."""

    ASK = "ask"
    ACCEPT_NEW = "accept-new"
    STRICT = "strict"


class Service(StrEnum):
    AUTO = "auto"
    SYSTEM = "system"
    USER = "user"
    DETACHED = "detached"


class Transport(StrEnum):
    TUNNEL = "tunnel"
    DIRECT = "direct"


class Strategy(StrEnum):
    ADAPTIVE = "adaptive"
    ROUND_ROBIN = "round-robin"
    LEAST_LOADED = "least-loaded"
    MODEL_AFFINITY = "model-affinity"


class Mode(StrEnum):
    """Whose Ollama answers: the fleet's; the local one, the fleet where that cannot; the local one alone."""

    DISTRIBUTED = "distributed"
    LOCAL = "local"
    STANDALONE = "standalone"


class Fallback(StrEnum):
    """What answers where no host of the fleet can."""

    LOCAL = "local"
    CACHE = "cache"


@dataclass(frozen=True, slots=True)
class Instance:
    """One Ollama server on a host; `gpus` None means all of them, () means none (CPU).

    `env` is the whole of it: the host's, with the instance's own on top.
    """

    port: int = OLLAMA_PORT
    gpus: tuple[int, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Host:
    """A machine. None means: what ~/.ssh/config or OpenSSH's default says."""

    name: str
    address: str
    connection: Connection = Connection.SSH
    user: str | None = None
    port: int | None = None
    identity: Path | None = None
    jump: tuple[str, ...] = ()  # "[user@]host[:port]", the one nearest to us first
    host_keys: HostKeys = HostKeys.ASK
    groups: tuple[str, ...] = ()
    service: Service = Service.AUTO
    ollama: str = "latest"  # exact version, "latest", or path/URL of a release tarball
    models_dir: str | None = None  # OLLAMA_MODELS; None: the default of the service mode
    env: Mapping[str, str] = field(default_factory=dict)
    instances: tuple[Instance, ...] = (Instance(),)


@dataclass(frozen=True, slots=True)
class DeclaredModel:
    """A model and where it shall be: on the hosts that match `on`, or on any `replicas` of them."""

    name: ModelName
    on: tuple[str, ...] = ("*",)
    replicas: int | None = None
    source: str | None = None  # absolute path of a GGUF or a Modelfile, "host:NAME", None: the registry


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Who may use the gateway; the key itself is in a variable of the environment or in a file, or only its SHA-256 is known."""

    name: str
    variable: str | None = None
    file: Path | None = None
    sha256: str | None = None  # hex
    models: tuple[str, ...] = ()  # patterns; empty: every model
    manage: bool = False  # may pull, push, create, copy and delete models
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    priority: int = 0  # higher goes first


@dataclass(frozen=True, slots=True)
class Gateway:
    listen: str = "127.0.0.1:11434"
    workers: int = 1
    strategy: Strategy = Strategy.ADAPTIVE
    transport: Transport = Transport.TUNNEL
    mode: Mode = Mode.DISTRIBUTED
    local: str | None = None
    fallback: tuple[Fallback, ...] = (Fallback.LOCAL, Fallback.CACHE)  # in this order, whatever the file's is
    cache_mb: int = 64
    cache_hours: int = 24
    replicas: int = 2  # hosts that an undeclared model is pulled to
    cloud: str | None = None  # the host that is signed in to ollama.com; None: the first one
    tls_cert: Path | None = None
    tls_key: Path | None = None
    origins: tuple[str, ...] = ()
    keys: tuple[ApiKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Inventory:
    path: Path
    name: str
    hosts: Mapping[str, Host]
    groups: Mapping[str, tuple[str, ...]]  # group name to host names, in the order of the file
    models: tuple[DeclaredModel, ...] = ()
    gateway: Gateway = field(default_factory=Gateway)
    mirror: str | None = None
    checksums: Mapping[str, str] = field(default_factory=dict)  # file name of an artifact to its sha256, hex
