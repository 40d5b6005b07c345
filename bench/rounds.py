"""What several rounds of the same measurement come to."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Cost = TypeVar("Cost", bound="DataclassInstance")


def least(rounds: Sequence[Cost]) -> Cost:
    """Of each figure the least of all rounds, for others' work on the machine only adds to them."""
    return of_each(rounds, min)


def of_each(rounds: Sequence[Cost], chosen: Callable[[list[float]], float]) -> Cost:
    """One whose figures are each chosen from those of all rounds."""
    names = [each.name for each in fields(rounds[0])]
    return type(rounds[0])(**{name: chosen([getattr(cost, name) for cost in rounds]) for name in names})
