"""What a running gateway is set to: one frozen document that the supervisor hands to each of its children on stdin."""

from dataclasses import dataclass, replace

import msgspec


@dataclass(frozen=True, slots=True)
class Limits:
    """What an edge worker takes from a client before it answers 4xx. Sizes in bytes, times in seconds."""

    # nginx takes 4 x 8 KiB, Apache and Tomcat 8 KiB a line, Node 16 KiB: no client that works behind those needs more.
    head: int = 32 * 2**10
    # Ollama has none. 10 images of 4.5 MB in base64 (4/3) are 60 MB, and 2 MB of text is a context of 500 000 tokens.
    body: int = 64 * 2**20
    # From the first byte of a head to its end, and the longest silence inside a body.
    head_seconds: float = 30.0
    body_seconds: float = 60.0
    # Bytes a second, over `body_seconds`: a modem of 1990 is faster, and who is slower only holds a connection.
    body_rate: int = 1024
    # Go's client keeps idle connections for 90 s, Python's httpx for 5 s.
    idle_seconds: float = 75.0
    # A client that reads nothing of an answer that waits for it: a laptop that sleeps comes back within this or starts anew.
    read_seconds: float = 300.0
    # All bodies that a worker holds at once, and connections: in all, and from one address (0: no bound of its own).
    bodies: int = 1024 * 2**20
    connections: int = 9_500
    connections_per_address: int = 0


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the environment says instead of the inventory, in the inventory's words; "" and None: nothing."""

    mode: str = ""
    fallback: tuple[str, ...] | None = None
    local: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """`listen_port` 0 lets the system choose; the supervisor puts the chosen one in before it starts workers.

    `run_dir` holds `lease.sock`, `api.sock` and `tunnels/`; it is private to the user (0700). `strategy` and `transport` are the words of
    the inventory, not its enums: the edge may not import that room.
    """

    run_dir: str
    inventory: str
    limit: str | None = None
    listen_host: str = "127.0.0.1"
    listen_port: int = 11434
    workers: int = 1
    strategy: str = "adaptive"
    transport: str = "tunnel"
    accept_new: bool = False
    verbose: bool = False
    # Fields that the command line has set: the inventory's word on them does not count, at a reload neither.
    given: tuple[str, ...] = ()
    # For the length of a check: commands that look for a gateway do not find it, and the one key that opens it, whatever the
    # inventory says, has this SHA-256 (hex).
    temporary: str = ""
    # How long streams may go on after SIGTERM. systemd kills after 90 s by default: stay below it.
    grace_seconds: float = 60.0
    connect_seconds: float = 5.0
    # A control process that answers nothing for so long is killed, and started again.
    hang_seconds: float = 20.0
    limits: Limits = Limits()
    # What the inventory and the environment say, the environment winning: see environment.py.
    overrides: Overrides = Overrides()
    tls_cert: str = ""
    tls_key: str = ""
    origins: tuple[str, ...] = ()  # beside Ollama's own (OLLAMA_ORIGINS)
    insecure: bool = False
    admin_digest: str = ""  # SHA-256 (hex) of OLLAMA_ADMIN_TOKEN; "": /admin is closed

    @property
    def lease_socket(self) -> str:
        return f"{self.run_dir}/lease.sock"

    @property
    def api_socket(self) -> str:
        return f"{self.run_dir}/api.sock"

    @property
    def operator_socket(self) -> str:
        """The same application for `olladist proxy status, reload, drain`: who may open it is the gateway's own user."""
        return f"{self.run_dir}/operator.sock"

    @property
    def supervisor_socket(self) -> str:
        """Where the supervisor takes orders: see orders.py."""
        return f"{self.run_dir}/supervisor.sock"

    @property
    def address(self) -> str:
        """Where clients reach the gateway, as a URL."""
        host = f"[{self.listen_host}]" if ":" in self.listen_host else self.listen_host
        return f"{'https' if self.tls_cert else 'http'}://{host}:{self.listen_port}"

    def listening_on(self, port: int) -> "Settings":
        return replace(self, listen_port=port)


def encode(settings: Settings) -> bytes:
    """One line of JSON, its newline included."""
    return msgspec.json.encode(settings) + b"\n"


def decode(line: bytes) -> Settings:
    """Raises msgspec.ValidationError where the line is not what `encode` writes."""
    return msgspec.json.decode(line, type=Settings)
