"""Ollama's routes that make models: blobs, and create."""

from collections.abc import Mapping

from olladist.gateway.control.parts import Parts
from olladist.gateway.control.uploads.blobs import Blobs
from olladist.gateway.control.uploads.create import Creator
from olladist.gateway.control.uploads.nodes import Nodes
from olladist.gateway.control.uploads.spread import Spreader
from olladist.gateway.control.web import Answer


def answers(parts: Parts) -> Mapping[str, Answer]:
    nodes, spreader = Nodes(parts), Spreader(parts)
    parts.stores.start(spreader.run())
    return {**Blobs(parts, nodes).answers(), **Creator(parts, nodes, spreader).answers()}
