"""Where the gateway answers otherwise than one Ollama, and why. docs/reference/differences.md tells the same; a test holds that."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.lab.conformance.readable import Answer
from tests.lab.conformance.wire import Request


@dataclass(frozen=True)
class Difference:
    """`title` is the heading in the docs; `alter` makes the gateway's answer out of an Ollama's."""

    title: str
    applies: Callable[[Request, Answer], bool]
    alter: Callable[[Answer], Answer]


DIFFERENCES: tuple[Difference, ...] = ()
