"""How requests are served: which mode, what stands in where its first choice cannot, and who has said so. Pure."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from olladist.errors import UsageError
from olladist.gateway.control.backends import Role
from olladist.gateway.environment import DISTRIBUTED, LOCAL_ADDR, STANDALONE, read_local, with_environment
from olladist.gateway.exposure import is_own_address
from olladist.gateway.settings import Overrides, Settings
from olladist.inventory.model import Fallback, Gateway, Mode


class Source(StrEnum):
    """Who has decided something, the strongest last."""

    INVENTORY = "inventory"
    ENVIRONMENT = "environment"
    ADMINISTRATOR = "administrator"


_INVENTORY: Final[Mapping[str, Source]] = MappingProxyType(
    dict.fromkeys(("mode", "fallback", "local"), Source.INVENTORY)
)


@dataclass(frozen=True, slots=True)
class Serving:
    """`local` is the URL of the Ollama beside the gateway, "" where there is none; `sources` says who decided mode, fallback and local.

    `order` is whose Ollamas answer: the first choice, then what stands in for it. An empty fallback means none of any kind.
    """

    mode: Mode = Mode.DISTRIBUTED
    fallback: tuple[Fallback, ...] = ()
    local: str = ""
    sources: Mapping[str, Source] = field(default_factory=lambda: _INVENTORY)
    order: tuple[Role, ...] = field(init=False)  # asked for with each request, so it is worked out once

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", _order(self.mode, self.fallback, self.local))

    @property
    def distributed(self) -> bool:
        """Whether the fleet is the first choice, as X-Ollama-Distributed says."""
        return self.mode is Mode.DISTRIBUTED

    @property
    def uses_cache(self) -> bool:
        """Whether kept answers are given at all."""
        return Fallback.CACHE in self.fallback and self.mode is not Mode.STANDALONE


def _order(mode: Mode, fallback: Collection[Fallback], local: str) -> tuple[Role, ...]:
    match mode:
        case Mode.STANDALONE:
            return (Role.LOCAL,)
        case Mode.LOCAL:
            return (Role.LOCAL, Role.NODE) if fallback else (Role.LOCAL,)
        case Mode.DISTRIBUTED:
            return (Role.NODE, Role.LOCAL) if local and Fallback.LOCAL in fallback else (Role.NODE,)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What an administrator has set at run time; None: nothing."""

    mode: Mode | None = None
    fallback: tuple[Fallback, ...] | None = None


def serving_of(gateway: Gateway, overrides: Overrides, chosen: Chosen | None = None) -> Serving:
    """How requests are served: the administrator before the environment before the inventory.

    UsageError where the mode needs a local Ollama and nobody has said where it is, or what was said is no address of one.
    """
    chosen = chosen or Chosen()
    mode, mode_by = gateway.mode, Source.INVENTORY
    fallback, fallback_by = gateway.fallback, Source.INVENTORY
    if overrides.mode:
        mode, mode_by = Mode(overrides.mode), Source.ENVIRONMENT
    if chosen.mode is not None:
        mode, mode_by = chosen.mode, Source.ADMINISTRATOR
    if overrides.fallback is not None:
        fallback, fallback_by = in_order(overrides.fallback), Source.ENVIRONMENT
    if chosen.fallback is not None:
        fallback, fallback_by = chosen.fallback, Source.ADMINISTRATOR
    local = overrides.local or (read_local(gateway.local, "[gateway] local =") if gateway.local else "")
    if mode is not Mode.DISTRIBUTED and not local:
        raise UsageError(
            f"mode {mode.value} ({_who(mode, mode_by)}) needs a local Ollama, and nobody has said where it is",
            hint=f"set {LOCAL_ADDR}, or `local` in [gateway]: http://127.0.0.1:11435",
        )
    local_by = Source.ENVIRONMENT if overrides.local else Source.INVENTORY
    return Serving(mode, fallback, local, {"mode": mode_by, "fallback": fallback_by, "local": local_by})


def settings_of(settings: Settings, gateway: Gateway, environ: Mapping[str, str]) -> Settings:
    """The settings of a gateway that can serve as the inventory and the environment say; UsageError where it cannot."""
    settings = with_environment(settings, gateway.origins, environ)
    serving = serving_of(gateway, settings.overrides)
    check_no_loop(serving.local, settings.listen_host, settings.listen_port, is_own_address)
    return settings


def in_order(names: Iterable[str]) -> tuple[Fallback, ...]:
    """The fallbacks of these names, each once, in the order in which they are tried."""
    named = set(names)
    return tuple(fallback for fallback in Fallback if fallback.value in named)


def check_no_loop(
    local: str, listen_host: str, listen_port: int, is_own: Callable[[str], bool] = lambda _: False
) -> None:
    """UsageError where the local Ollama would be the gateway itself, which would send its requests round in a circle.

    `is_own` says whether an address is one of this machine's, for a gateway that listens on all of them.
    """
    host, _, port = local.removeprefix("http://").rpartition(":")
    if not port or int(port) != listen_port:
        return
    here = listen_host.strip("[]")
    theirs = host.strip("[]")
    everywhere = here in _EVERYWHERE
    loopback = _is_loopback(theirs) and (everywhere or _is_loopback(here))
    if here == theirs or loopback or (everywhere and is_own(theirs)):
        raise UsageError(
            f"the local Ollama {local} has the address of the gateway itself",
            hint="let the gateway listen on another port (--listen), or the local Ollama (OLLAMA_HOST)",
        )


_EVERYWHERE: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104  compared with, not listened on


def _is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")


def _who(mode: Mode, source: Source) -> str:
    if source is not Source.ENVIRONMENT:
        return f"set by the {source.value}"
    return f"set by {STANDALONE}" if mode is Mode.STANDALONE else f"set by {DISTRIBUTED}=false"
