"""What shares a runner on an Ollama: the same contents, by whichever name they are asked for."""

from collections import Counter
from collections.abc import Mapping


class Identities:
    """What names stand for, counted over the nodes that list them, so that no question walks through the nodes."""

    def __init__(self) -> None:
        self._digests: dict[str, Counter[str]] = {}  # by name: how many nodes mean which contents
        self._names: dict[str, Counter[str]] = {}  # the other way round

    def of(self, key: str) -> str:
        """The contents; the name where nodes mean different contents by it, or nobody has it."""
        digests = self._digests.get(key, ())
        return next(iter(digests)) if len(digests) == 1 else f"name:{key}"

    def names(self, contents: str) -> tuple[str, ...]:
        """The names that stand for what `of` has answered."""
        key = contents.removeprefix("name:")
        return (key,) if key != contents else tuple(sorted(self._names.get(contents, ())))

    def has_aliases(self, key: str) -> bool:
        """Whether the contents that all mean by this name go by others too."""
        return len(self._names.get(self.of(key), ())) > 1

    def replace(self, before: Mapping[str, str], after: Mapping[str, str]) -> frozenset[str]:
        """What one node has listed and lists now, digests by name. Returns the names that stand for something else since."""
        old, new = set(before.items()), set(after.items())
        known = {key: self.of(key) for key, _ in old ^ new}
        for key, digest in new - old:
            self._digests.setdefault(key, Counter())[digest] += 1
            self._names.setdefault(digest, Counter())[key] += 1
        for key, digest in old - new:
            _uncount(self._digests, key, digest)
            _uncount(self._names, digest, key)
        return frozenset(key for key, identity in known.items() if identity != self.of(key))


def _uncount(counts: dict[str, Counter[str]], one: str, other: str) -> None:
    counts[one][other] -= 1
    if not counts[one][other]:
        del counts[one][other]
    if not counts[one]:
        del counts[one]
