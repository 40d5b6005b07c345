"""Which node takes uploads and creates models: one at a time for as long as it answers, so that blobs and create meet there. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from olladist.gateway.control.backends import Backend
from olladist.scheduling.health import State


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that answers, and what of a create's needs is there: its base, and those of its blobs."""

    node: str
    has_base: bool = False
    blobs: frozenset[str] = field(default_factory=frozenset)


def in_order(backends: Iterable[Backend], states: dict[int, State], last: str, designated: str) -> list[Backend]:
    """The nodes that answer, best first: the one that took the last upload, the designated host's, the well ones, then as in the inventory."""

    def rank(backend: Backend) -> tuple[bool, bool, bool, int]:
        well = states[backend.id] is State.UP
        return (backend.node != last, not well, backend.host.name != designated, backend.id)

    return sorted((b for b in backends if states.get(b.id, State.DOWN) is not State.DOWN), key=rank)


def choose_builder(candidates: Sequence[Candidate], needed: frozenset[str]) -> Candidate | None:
    """The node that creates a model of blobs `needed` (and of a base), out of `candidates`, the preferred one first.

    One that has all of it; else one that has the base, where blobs can be brought to; else the one with the most blobs, where Ollama
    pulls the base itself.
    """

    def rank(candidate: Candidate) -> tuple[bool, bool, int]:
        missing = len(needed - candidate.blobs)
        return (not (candidate.has_base and not missing), not candidate.has_base, missing)

    return min(candidates, key=rank, default=None)


def where_to_copy_from(candidates: Sequence[Candidate], needed: frozenset[str], builder: Candidate) -> dict[str, str]:
    """The blobs that the builder lacks and another node has: digest to that node. What nobody has is left to Ollama to refuse."""
    found: dict[str, str] = {}
    for digest in sorted(needed - builder.blobs):
        if holder := next((c.node for c in candidates if digest in c.blobs), None):
            found[digest] = holder
    return found
