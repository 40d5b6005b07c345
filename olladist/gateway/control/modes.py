"""How requests are served: which mode, what stands in where its first choice cannot, and who has said so. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from olladist.gateway.control.backends import Role
from olladist.inventory.model import Fallback, Mode


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
    """`local` is the URL of the Ollama beside the gateway, "" where there is none; `sources` says who decided mode, fallback and local."""

    mode: Mode = Mode.DISTRIBUTED
    fallback: tuple[Fallback, ...] = ()
    local: str = ""
    sources: Mapping[str, Source] = field(default_factory=lambda: _INVENTORY)

    @property
    def order(self) -> tuple[Role, ...]:
        """Whose Ollamas answer: the first choice, then what stands in for it. An empty fallback means none of any kind."""
        match self.mode:
            case Mode.STANDALONE:
                return (Role.LOCAL,)
            case Mode.LOCAL:
                return (Role.LOCAL, Role.NODE) if self.fallback else (Role.LOCAL,)
            case Mode.DISTRIBUTED:
                stands_in = self.local and Fallback.LOCAL in self.fallback
                return (Role.NODE, Role.LOCAL) if stands_in else (Role.NODE,)

    @property
    def uses_cache(self) -> bool:
        """Whether kept answers are given at all."""
        return Fallback.CACHE in self.fallback and self.mode is not Mode.STANDALONE
