"""What became of each host: its value, or the error that ended the work there."""

from collections.abc import Mapping
from typing import TypeVar

from olladist.errors import HostError, Unreachable

T = TypeVar("T")


def values(results: Mapping[str, T | HostError]) -> dict[str, T]:
    """The hosts on which the work succeeded."""
    return {host: result for host, result in results.items() if not isinstance(result, HostError)}


def failures(results: Mapping[str, T | HostError]) -> dict[str, HostError]:
    return {host: result for host, result in results.items() if isinstance(result, HostError)}


def exit_status(results: Mapping[str, object]) -> int:
    """0: all hosts done; 3: not one of them could be reached; 1: anything between."""
    errors = [result for result in results.values() if isinstance(result, HostError)]
    if not errors:
        return 0
    return 3 if len(errors) == len(results) and all(isinstance(error, Unreachable) for error in errors) else 1
