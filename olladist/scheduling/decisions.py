"""What a placement wants done."""

from typing import NamedTuple, TypeAlias


class Bind(NamedTuple):
    """Send the request to the machine."""

    ticket: int
    machine: int


class Unload(NamedTuple):
    """Ask the machine to unload a model, which is idle there, before the next Bind or Preload to it."""

    machine: int
    model: str


class Preload(NamedTuple):
    """Ask the machine to load a model for those to come; `ticket` is what the request for it is called."""

    ticket: int
    machine: int
    model: str


Decision: TypeAlias = Bind | Unload | Preload
