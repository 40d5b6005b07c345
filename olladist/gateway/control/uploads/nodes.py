"""The nodes that can take an upload or a create now, in the order in which they are asked."""

from olladist.gateway.control.backends import Backend
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.uploads.builder import in_order
from olladist.gateway.control.upstreams import Failed


class Nodes:
    """Remembers only which node was used last: what lies where, the nodes are asked."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._last = ""

    def for_uploads(self) -> list[Backend]:
        """Those that answer requests in the present mode and are not down, the one that blobs go to first."""
        roster, inventory = self._parts.roster, self._parts.declared.inventory
        designated = inventory.gateway.cloud or next(iter(inventory.hosts), "")
        asked = [roster.backends[number] for number in roster.of_role(roster.shown_role())]
        working = [backend for backend in asked if backend.node not in roster.drained]
        states = {number: seen.state for number, seen in roster.seen.items()}
        return in_order(working or asked, states, self._last, designated)

    def uses(self, backend: Backend) -> None:
        """From now on it is asked first, so that what belongs together comes together."""
        self._last = backend.node

    def failed(self, backend: Backend, failed: Failed, *, during: str = "") -> None:
        """It did not answer: evidence about it as any other request's."""
        if not failed.silent:
            self._parts.roster.ended(backend.id, "died" if during else "connect")
