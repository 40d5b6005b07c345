"""What the inventory says of the gateway now: read again at each reload, and from a copy where the file is broken at a restart."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from olladist.errors import UsageError
from olladist.gateway.control.modes import Serving, serving_of
from olladist.gateway.exposure import check_exposure
from olladist.gateway.settings import Settings
from olladist.inventory.model import Host, Inventory, Strategy, Transport
from olladist.inventory.parse import parse, read
from olladist.inventory.select import select
from olladist.ollama.release import is_version, normalise, version_key

# What a fleet says its version is while nobody has said it: no feature of any client is asked for by it.
NO_VERSION = "0.0.0"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Declaration:
    """One reading of the inventory: `hosts` are those that the gateway is for (--limit), the rest with the command line's word in it."""

    inventory: Inventory
    hosts: tuple[Host, ...]
    strategy: Strategy
    transport: Transport
    serving: Serving  # where no administrator has chosen otherwise
    text: str


def read_declaration(settings: Settings) -> Declaration:
    """Reads and checks the whole inventory; UsageError with all that is wrong."""
    return _declaration(settings, read(Path(settings.inventory)))


def _declaration(settings: Settings, text: str) -> Declaration:
    inventory = parse(text, Path(settings.inventory))
    gateway = inventory.gateway
    # Taking the last key away would let everybody in.
    check_exposure(settings.listen_host, keyed=bool(gateway.keys), insecure=settings.insecure)
    return Declaration(
        inventory=inventory,
        hosts=select(inventory, settings.limit),
        strategy=Strategy(settings.strategy) if "strategy" in settings.given else gateway.strategy,
        transport=Transport(settings.transport) if "transport" in settings.given else gateway.transport,
        serving=serving_of(gateway, settings.overrides),
        text=text,
    )


class Declared:
    """The declaration that counts. `listeners` are called after each replacement; what can go wrong is checked before it."""

    def __init__(self, declaration: Declaration) -> None:
        self.now = declaration
        self.listeners: list[Callable[[Declaration], None]] = []

    @property
    def inventory(self) -> Inventory:
        return self.now.inventory

    @property
    def hosts(self) -> tuple[Host, ...]:
        return self.now.hosts

    def replace(self, declaration: Declaration) -> None:
        self.now = declaration
        for listener in self.listeners:
            listener(declaration)


def kept_path(settings: Settings) -> Path:
    """Where the last good text of the inventory lies, for a control process that is started again."""
    return Path(settings.run_dir) / "last-good-inventory.toml"


def kept_keys_path(settings: Settings) -> Path:
    """Where the digests of the keys lie that were good with it."""
    return Path(settings.run_dir) / "last-good-keys.json"


def keep(settings: Settings, declaration: Declaration) -> None:
    path = kept_path(settings)
    new = path.with_suffix(".new")
    new.write_text(declaration.text, "utf-8")
    new.rename(path)


def first_declaration(settings: Settings) -> Declaration:
    """What a control process begins with: the inventory; or its last good text, where a predecessor has left one and it is broken now.

    UsageError where there is none.
    """
    kept = kept_path(settings)
    try:
        declaration = read_declaration(settings)
    except UsageError as error:
        if not kept.exists():
            raise
        log.warning(
            "the inventory is broken: going on with what it said before", problem=error.message, hint=error.hint
        )
        return _declaration(settings, kept.read_text("utf-8"))
    keep(settings, declaration)
    return declaration


def configured_version(hosts: tuple[Host, ...]) -> str:
    """The lowest exact version that the inventory asks for."""
    versions = [normalise(host.ollama) for host in hosts if is_version(host.ollama)]
    return min(versions, key=version_key, default=NO_VERSION)
