"""What happens while a command works on many hosts, as values; whoever shows it decides how."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from olladist.errors import HostError

# Stands for a host's name where this machine does something for all of them: downloads a release, reads a model.
HERE = "this machine"


@dataclass(frozen=True, slots=True)
class Doing:
    """`host` begins something: step `number` of `of` where the steps are known (from 1), else 0 of 0."""

    host: str
    text: str
    number: int = 0
    of: int = 0


@dataclass(frozen=True, slots=True)
class Moving:
    """`done` of `total` bytes of `what` have reached `host`."""

    host: str
    what: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Finished:
    host: str
    text: str


@dataclass(frozen=True, slots=True)
class Failed:
    host: str
    error: HostError


Event: TypeAlias = Doing | Moving | Finished | Failed
Watch: TypeAlias = Callable[[Event], None]


def unwatched(event: Event) -> None:
    """Nobody looks."""
