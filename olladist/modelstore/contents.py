"""What a store on a host holds, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from olladist.ollama.digests import Digest
from olladist.ollama.manifest import Layer, Manifest
from olladist.ollama.names import ModelName


@dataclass(frozen=True, slots=True)
class StorePlace:
    """Where a host keeps its models ($OLLAMA_MODELS) and as whom it is changed.

    `owner` is "user" or "user:group" for a store that is not there yet; one that is there keeps the owner it has.
    """

    path: str
    root: bool = False
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """A model as it lies in a store: `name` is spelled as its manifest's path is."""

    name: ModelName
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class StoreContents:
    """What one scan saw.

    `blobs` and `parts` (ours, not yet whole) map digests to sizes in bytes; `recipes` maps the digest of what a model
    was made from to that of the manifest it became; `partial_bytes` is what Ollama's own unfinished downloads take.
    `problems` are findings in words: a damaged manifest, files with another owner. `closed` says why nothing can be
    moved into it, where that is so.
    """

    models: Mapping[str, Stored] = field(default_factory=dict)  # by ModelName.key
    blobs: Mapping[Digest, int] = field(default_factory=dict)
    parts: Mapping[Digest, int] = field(default_factory=dict)
    recipes: Mapping[str, Digest] = field(default_factory=dict)
    free_bytes: int = 0
    partial_bytes: int = 0
    owner: str = ""  # "uid:gid" of the store; "" where it does not exist yet
    problems: tuple[str, ...] = ()
    closed: str = ""

    def has(self, blob: Layer) -> bool:
        return self.blobs.get(blob.digest) == blob.size

    def missing(self, manifest: Manifest) -> tuple[Layer, ...]:
        """The blobs of `manifest` that are not here, or not with their right size."""
        return tuple(blob for blob in manifest.blobs if not self.has(blob))

    def complete(self, key: str) -> Manifest | None:
        """The manifest of the model `key` where it and all its blobs are here."""
        stored = self.models.get(key)
        return stored.manifest if stored and not self.missing(stored.manifest) else None

    def holds(self, key: str, digest: Digest) -> bool:
        manifest = self.complete(key)
        return manifest is not None and manifest.digest == digest
