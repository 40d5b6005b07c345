"""What is known once more, to try an event on: what happens there happens to nobody."""

from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar, overload

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
Other = TypeVar("Other")


class Forked(dict[Key, Value]):
    """A mapping whose values are copied when they are looked up for the first time; who goes through all of them sees, and must not change.

    An event looks at a few machines of thousands, so this takes microseconds where a copy of all would take a second.
    """

    def __init__(self, source: Mapping[Key, Value], copied: Callable[[Value], Value]) -> None:
        super().__init__(source)
        self._copied = copied
        self._own: set[Key] = set()

    def __getitem__(self, key: Key) -> Value:
        value = super().__getitem__(key)
        if key not in self._own:
            self._own.add(key)
            value = self._copied(value)
            super().__setitem__(key, value)
        return value

    def __setitem__(self, key: Key, value: Value) -> None:
        self._own.add(key)
        super().__setitem__(key, value)

    @overload
    def get(self, key: Key, default: None = None, /) -> Value | None: ...

    @overload
    def get(self, key: Key, default: Other, /) -> Value | Other: ...

    def get(self, key: Key, default: Other | None = None, /) -> Value | Other | None:
        return self[key] if key in self else default  # noqa: SIM401  that would be itself
