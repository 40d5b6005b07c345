"""A model's manifest: which blobs make the model. Its own digest is that of its raw bytes, so those are kept."""

from dataclasses import dataclass
from typing import Annotated

import msgspec

from olladist.ollama.digests import Digest, digest_of, parse_digest

MODEL_LAYER = "application/vnd.ollama.image.model"

# Real ones have 4 to 8 layers and 1 kB; a model split into tensors some thousand layers: 8192 x 200 bytes = 1.6 MB.
MANIFEST_BYTES_MAX = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Layer:
    media_type: str
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    digest: Digest
    config: Layer
    layers: tuple[Layer, ...]
    raw: bytes

    @property
    def blobs(self) -> tuple[Layer, ...]:
        """Every file below blobs/ that the model needs, each once, the config first."""
        seen: dict[Digest, Layer] = {}
        for layer in (self.config, *self.layers):
            seen.setdefault(layer.digest, layer)
        return tuple(seen.values())

    @property
    def size(self) -> int:
        """Bytes as `ollama list` counts them: config and layers, one that is named twice counted twice."""
        return self.config.size + sum(layer.size for layer in self.layers)

    @property
    def model_digests(self) -> tuple[Digest, ...]:
        """The weights; models that have these in common share one runner (server/sched.go goes by path of the blob)."""
        return tuple(layer.digest for layer in self.layers if layer.media_type == MODEL_LAYER)


class _Layer(msgspec.Struct):
    digest: str
    size: Annotated[int, msgspec.Meta(ge=0)]
    media_type: str = msgspec.field(name="mediaType", default="")


class _Document(msgspec.Struct):
    config: _Layer
    layers: list[_Layer] | None = None


def parse_manifest(raw: bytes) -> Manifest:
    """A manifest from its bytes; ValueError says what is wrong with it."""
    if len(raw) > MANIFEST_BYTES_MAX:
        raise ValueError(f"the manifest has {len(raw)} bytes, more than {MANIFEST_BYTES_MAX}")
    try:
        document = msgspec.json.decode(raw, type=_Document)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"the manifest cannot be read: {error}") from error
    return Manifest(
        digest=digest_of(raw),
        config=_layer(document.config),
        layers=tuple(_layer(layer) for layer in document.layers or ()),
        raw=raw,
    )


def _layer(layer: _Layer) -> Layer:
    return Layer(layer.media_type, parse_digest(layer.digest), layer.size)
