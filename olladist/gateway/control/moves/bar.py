"""Bytes of a model on their way to hosts, as the one bar that Ollama's clients draw of them. Pure."""

from collections.abc import Mapping

from olladist.gateway.control.models.progress import Line
from olladist.ollama.digests import Digest


class Bar:
    """Lines of progress: the total never changes, what is completed never falls, and it is the total only at the end.

    Clients draw one bar for each digest (cmd/cmd.go CreateHandler), and all hosts get the same one: it counts what all of them lack.
    """

    def __init__(self, status: str, digest: Digest, missing: Mapping[str, int]) -> None:
        """`missing`: the bytes that each host lacks."""
        self._status = status
        self._digest = digest
        self._total = sum(missing.values())
        self._bytes = dict(missing)
        self._done = dict.fromkeys(missing, 0)
        self._shown = -1

    def start(self) -> Line:
        """A line without numbers where no byte has to move."""
        return self._line(0) or {"status": self._status}

    def moved(self, host: str, done: int) -> Line | None:
        """`done` bytes of what it lacked are on a host; None where that is no news."""
        if host not in self._done:
            return None
        # A blob that went away meanwhile is brought again, which is more than was to be brought.
        self._done[host] = min(max(self._done[host], done), self._bytes[host])
        return self._line(min(sum(self._done.values()), self._total - 1))

    def finish(self) -> Line | None:
        """All hosts have all of it."""
        return self._line(self._total)

    def _line(self, completed: int) -> Line | None:
        if self._total == 0 or completed <= self._shown:
            return None
        self._shown = completed
        line: Line = {"status": self._status, "digest": self._digest, "total": self._total}
        return line | ({"completed": completed} if completed else {})  # as Go leaves out a zero
