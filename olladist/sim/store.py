"""A model store on disk in Ollama's layout, read afresh for every request as Ollama does (manifest/*.go, server/images.go)."""

import hashlib
import json
import os
import tempfile
from collections.abc import AsyncIterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from olladist.ollama.digests import Digest, digest_of, parse_digest
from olladist.ollama.framing import encode
from olladist.ollama.manifest import MODEL_LAYER, Manifest, parse_manifest
from olladist.ollama.names import ModelName
from olladist.ollama.store import BLOBS, MANIFESTS, blob_path, manifest_path
from olladist.sim.golang import Document
from olladist.sim.model import DEFAULT_TEMPLATE, Entry, Model, read_head

_IMAGE = "application/vnd.ollama.image."
TEMPLATE, SYSTEM, PARAMS = _IMAGE + "template", _IMAGE + "system", _IMAGE + "params"
MESSAGES, LICENSE = _IMAGE + "messages", _IMAGE + "license"
CONFIG = "application/vnd.docker.container.image.v1+json"


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as a new manifest names it; `status` is the line that `create` streams about it."""

    media_type: str
    digest: Digest
    size: int
    source: str = ""
    status: str = ""

    def document(self) -> Document:
        named: Document = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        return named | ({"from": self.source} if self.source else {})


class Store:
    def __init__(self, root: Path) -> None:
        self.root = root

    def blob(self, digest: Digest) -> Path:
        return self.root / blob_path(digest)

    def manifest_file(self, name: ModelName) -> Path:
        return self.root / manifest_path(name)

    def names(self) -> Iterator[ModelName]:
        """Every name with a manifest; what Ollama would not take for one is passed over."""
        for path in (self.root / MANIFESTS).glob("*/*/*/*"):
            name = ModelName(*path.relative_to(self.root / MANIFESTS).parts)
            if path.is_file() and name.is_valid():
                yield name

    def entries(self) -> Iterator[Entry]:
        for name in self.names():
            try:
                yield self.entry(name)
            except (OSError, ValueError):
                continue  # Ollama warns in its log and lists the others

    def entry(self, name: ModelName) -> Entry:
        """FileNotFoundError where there is none, ValueError for a damaged one."""
        path = self.manifest_file(name)
        raw = path.read_bytes()
        return Entry(name, parse_manifest(raw), path.stat().st_mtime_ns, json.loads(raw))

    def existing(self, name: ModelName) -> ModelName:
        """The name in the spelling it has on disk, part by part (getExistingName)."""
        parts = {"host": name.host, "namespace": name.namespace, "model": name.model, "tag": name.tag}
        for known in self.names():
            for part, wanted in parts.items():
                spelled: str = getattr(known, part)
                if spelled.lower() == wanted.lower():
                    parts[part] = spelled
        return ModelName(**parts)

    def read(self, name: ModelName) -> Model:
        """The whole model; FileNotFoundError where it or a small layer is missing, ValueError for what is damaged."""
        entry = self.entry(name)
        config: Document = json.loads(self.blob(entry.manifest.config.digest).read_bytes())
        weights, parent = None, ""
        small: dict[str, list[bytes]] = {}
        for layer, named in zip(entry.manifest.layers, entry.document["layers"], strict=True):
            path = self.blob(layer.digest)
            if layer.media_type == MODEL_LAYER:
                weights, parent = path, str(named.get("from", ""))
            elif layer.media_type in {TEMPLATE, SYSTEM, PARAMS, MESSAGES, LICENSE}:
                small.setdefault(layer.media_type, []).append(path.read_bytes())
        return Model(
            entry,
            config,
            weights,
            read_head(weights) if weights and weights.exists() else None,
            parent,
            template=small.get(TEMPLATE, [DEFAULT_TEMPLATE.encode()])[-1].decode(),
            system=small.get(SYSTEM, [b""])[-1].decode(),
            parameters=json.loads(small.get(PARAMS, [b"{}"])[-1]),
            messages=json.loads(small.get(MESSAGES, [b"[]"])[-1]),
            licenses=[text.decode() for text in small.get(LICENSE, [])],
        )

    def config(self, entry: Entry) -> Document | None:
        """The config alone; None where it is missing, and then the model is not listed."""
        try:
            document = json.loads(self.blob(entry.manifest.config.digest).read_bytes())
        except (OSError, ValueError):
            return None
        return document if isinstance(document, dict) else None

    def add(self, content: bytes, media_type: str) -> Layer:
        """A layer with that content, its blob written if it was not there."""
        digest = digest_of(content)
        path = self.blob(digest)
        status = "using existing layer"
        if not path.exists():
            status = "creating new layer"
            path.parent.mkdir(parents=True, exist_ok=True)
            self._place(content, path)
        return Layer(media_type, digest, len(content), status=f"{status} {digest}")

    def keep(self, digest: Digest, media_type: str, source: str) -> Layer:
        """A layer of a blob that is there; FileNotFoundError otherwise."""
        size = self.blob(digest).stat().st_size
        return Layer(media_type, digest, size, source, f"using existing layer {digest}")

    async def receive(self, chunks: AsyncIterable[bytes]) -> Digest:
        """Takes in a blob under the name of its own digest, as POST /api/blobs does; its temporary file is sha256-<random>."""
        folder = self.root / BLOBS
        folder.mkdir(parents=True, exist_ok=True)
        total = hashlib.sha256()
        handle, name = tempfile.mkstemp(prefix="sha256-", dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                async for chunk in chunks:
                    total.update(chunk)
                    file.write(chunk)
            path = self.blob(f"sha256:{total.hexdigest()}")
            if not path.exists():
                Path(name).chmod(0o644)
                Path(name).rename(path)
        finally:
            Path(name).unlink(missing_ok=True)
        return f"sha256:{total.hexdigest()}"

    def write_manifest(self, name: ModelName, config: Layer, layers: Sequence[Layer]) -> None:
        document = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": config.document(),
            "layers": [layer.document() for layer in layers],
        }
        path = self.manifest_file(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(document) + b"\n")

    def copy(self, source: ModelName, target: ModelName) -> None:
        """FileNotFoundError where there is no source; its blobs are not looked at."""
        raw = self.manifest_file(source).read_bytes()
        path = self.manifest_file(target)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)

    def delete(self, name: ModelName) -> None:
        """Removes the manifest, the folders it leaves empty, and at once the blobs nobody else names."""
        entry = self.entry(name)
        self.manifest_file(name).unlink()
        remove_empty(self.root / MANIFESTS)
        self.drop_unused(entry.manifest)

    def drop_unused(self, manifest: Manifest) -> None:
        used = self._used()
        for layer in manifest.blobs:
            if layer.digest not in used:
                self.blob(layer.digest).unlink(missing_ok=True)

    def prune(self) -> int:
        """What 0.17.4 does when it starts: every file in blobs/ that no manifest names goes, without grace."""
        used = {self.blob(digest).name for digest in self._used()}
        unused = [path for path in (self.root / BLOBS).glob("*") if path.is_file() and path.name not in used]
        for path in unused:
            path.unlink(missing_ok=True)
        remove_empty(self.root / MANIFESTS)
        return len(unused)

    def _used(self) -> set[Digest]:
        return {layer.digest for entry in self.entries() for layer in entry.manifest.blobs}

    def _place(self, content: bytes, path: Path) -> None:
        handle, name = tempfile.mkstemp(prefix="sha256-", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).chmod(0o644)
        Path(name).rename(path)


def remove_empty(folder: Path) -> None:
    """Removes a folder tree's empty folders, the root too if nothing is left (PruneDirectory)."""
    if not folder.is_dir() or folder.is_symlink():
        return
    for inner in folder.iterdir():
        remove_empty(inner)
    if not any(folder.iterdir()):
        folder.rmdir()


def is_digest(text: str) -> bool:
    try:
        parse_digest(text)
    except ValueError:
        return False
    return True
