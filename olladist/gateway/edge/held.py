"""Answers of backends that have not been passed on."""

from olladist.gateway.edge.head import Field
from olladist.gateway.edge.replies import Reply
from olladist.gateway.edge.upstream import Upstream


class Held:
    """An answer that another backend may better: kept whole, so that it can still be given."""

    __slots__ = ("added", "chunked", "fields", "framing", "pieces", "reason", "reply", "size", "status")

    def __init__(self, upstream: Upstream, rest: bytes, added: bytes) -> None:
        self.status = upstream.status
        self.reason = upstream.reason
        self.fields: list[Field] = upstream.fields
        self.framing = upstream.framing
        self.chunked = upstream.chunked
        self.reply: Reply | None = upstream.reply
        self.added = added
        self.pieces = [rest]
        self.size = len(rest)

    def add(self, data: bytes) -> None:
        self.pieces.append(data)
        self.size += len(data)

    @property
    def body(self) -> bytes:
        """As it came, its framing included."""
        return b"".join(self.pieces)
