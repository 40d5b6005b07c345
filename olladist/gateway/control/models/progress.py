"""The progress of one change on several nodes, told as if one Ollama made it.

What comes out is what the clients of a single Ollama can draw (cmd/cmd.go PullHandler, ollama-js utils.ts): a bar for each digest,
whose total never changes and whose completed never falls; other statuses once, in order; `success` once, and last.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Line: TypeAlias = dict[str, Any]

SUCCESS = "success"

# An Ollama says how far a download is every 60 ms (server/download.go Wait), and fifty of them together shall not say it fifty times
# as often: a digest has a line when it has grown by a hundredth, or after this time.
_EVERY = 0.05
# Where nothing grows a line says now and then that it still goes on, for whatever between here and the client counts silence.
_STILL = 1.0
# Layers of the largest known model: 5 and its config. Statuses: below 10. A node that names more is no Ollama.
_NAMES_MAX = 1000
# A sentence that names more nodes is not read.
_SHOWN_MAX = 5


class BadProgress(ValueError):
    """Not a line of progress."""


@dataclass(slots=True)
class _Layer:
    """One digest; `parts` is how many bytes of it each node has."""

    status: str
    total: int
    parts: dict[str, int] = field(default_factory=dict)
    shown: int = -1
    at: float = 0.0

    def completed(self, nodes: Sequence[str], full: Mapping[str, Any]) -> int:
        """The mean over `nodes`: it moves while anything does, and is the total only when all have all. `full` ones are done."""
        parts = [self.total if node in full else self.parts.get(node, 0) for node in nodes]
        return sum(parts) // len(parts) if parts else 0


class Progress:
    """Lines of nodes in, lines for the client out; `now` in seconds. `succeeded` and `failed` say how nodes have ended.

    A status comes when the last node has reached it, the first one at once. A failed node does not count any more.
    """

    def __init__(self, nodes: Iterable[str]) -> None:
        self.nodes = tuple(nodes)
        self.succeeded: dict[str, None] = {}
        self.failed: dict[str, str] = {}
        self._layers: dict[str, _Layer] = {}
        self._said: dict[str, set[str]] = {}  # statuses that have not been shown, in the order they were first said
        self._shown: set[str] = set()

    @property
    def done(self) -> bool:
        return len(self.succeeded) + len(self.failed) == len(self.nodes)

    def take(self, node: str, line: Any, now: float) -> list[Line]:
        """What a node has said; BadProgress for what an Ollama does not say."""
        if node in self.succeeded or node in self.failed:
            return []
        if not isinstance(line, dict):
            raise BadProgress("sent a line that is no object")
        if "error" in line:
            return self.fail(node, str(line["error"]), now)
        status, digest = line.get("status"), line.get("digest", "")
        if not isinstance(status, str) or not isinstance(digest, str):
            raise BadProgress("sent a line without a status")
        if digest:
            return self._grown(node, status, digest, _size(line, "total"), _size(line, "completed"), now)
        if status == SUCCESS:
            self.succeeded[node] = None
        elif status not in self._shown:
            self._said.setdefault(status, set()).add(node)
            _bounded(self._said)
        return self._news(now)

    def fail(self, node: str, why: str, now: float) -> list[Line]:
        """A node has given up, or cannot be heard any more."""
        if node not in self.succeeded:
            self.failed.setdefault(node, why)
        return self._news(now)

    def finish(self, later: Mapping[str, str] | None = None) -> list[Line]:
        """The last lines, once all are done: who has not got it, and success; or the error if none has got it.

        `later` are nodes that get it when they are back, with the reason why they have not got it now.
        """
        if not self.succeeded:
            return [{"error": self.error()}]
        later = later or {}
        never = {node: why for node, why in self.failed.items() if node not in later}
        missing = (f"not done on {node}: {why}" for node, why in never.items())
        waiting = (f"not done on {node}: {why}; it gets the model when it is back" for node, why in later.items())
        return [*({"status": text} for text in (*missing, *waiting)), {"status": SUCCESS}]

    def error(self) -> str:
        """Why it has failed everywhere: in Ollama's own words where all nodes give the same ones."""
        reasons = dict.fromkeys(self.failed.values())
        if len(reasons) == 1:
            return next(iter(reasons))
        shown = [f"{node}: {why}" for node, why in self.failed.items()]
        more = len(shown) - _SHOWN_MAX
        return "; ".join(shown[:_SHOWN_MAX]) + (f"; and {more} more" if more > 0 else "")

    def _grown(self, node: str, status: str, digest: str, total: int, completed: int, now: float) -> list[Line]:
        if total <= 0:
            return []  # its size is not known yet
        layer = self._layers.setdefault(digest, _Layer(status, total))
        _bounded(self._layers)
        layer.parts[node] = max(layer.parts.get(node, 0), min(completed, total) * layer.total // total)
        return self._layer_news(digest, layer, now)

    def _news(self, now: float) -> list[Line]:
        """What changes for all digests and statuses when a node reaches a status or its end."""
        lines = [line for digest, layer in self._layers.items() for line in self._layer_news(digest, layer, now)]
        for status, nodes in tuple(self._said.items()):
            if nodes <= self.failed.keys() and len(self.nodes) > 1 and self._shown:
                del self._said[status]
            elif self._shown and any(node not in nodes and node not in self.succeeded for node in self._counted()):
                break
            else:
                del self._said[status]
                self._shown.add(status)
                lines.append({"status": status})
        return lines

    def _layer_news(self, digest: str, layer: _Layer, now: float) -> list[Line]:
        completed = layer.completed(self._counted(), self.succeeded)
        if layer.shown >= 0:
            growth, age = completed - layer.shown, now - layer.at
            if layer.shown == layer.total or growth < 0:
                return []
            due = completed == layer.total or growth * 100 >= layer.total or age >= _EVERY
            if not due if growth else age < _STILL:
                return []
        layer.shown, layer.at = completed, now
        line: Line = {"status": layer.status, "digest": digest, "total": layer.total}
        return [line | ({"completed": completed} if completed else {})]  # as Go leaves out a zero

    def _counted(self) -> list[str]:
        return [node for node in self.nodes if node not in self.failed]


def _size(line: Mapping[str, Any], name: str) -> int:
    size = line.get(name, 0)
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise BadProgress(f"sent a line whose {name} is no size")
    return size


def _bounded(names: Mapping[str, Any]) -> None:
    if len(names) > _NAMES_MAX:
        raise BadProgress(f"tells of more than {_NAMES_MAX} things")
