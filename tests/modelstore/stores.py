"""Real model stores in temporary folders."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from olladist.modelstore.contents import StorePlace
from olladist.ollama.manifest import Manifest, parse_manifest
from olladist.ollama.names import ModelName, parse_name
from olladist.ollama.store import STAGE, blob_path, manifest_path, stage_path

CONFIG = "application/vnd.docker.container.image.v1+json"
WEIGHTS = "application/vnd.ollama.image.model"
TEMPLATE = "application/vnd.ollama.image.template"


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def manifest_of(config: bytes, *layers: bytes) -> bytes:
    """A manifest as Ollama writes it."""

    def entry(kind: str, content: bytes) -> dict[str, object]:
        return {"mediaType": kind, "digest": digest(content), "size": len(content)}

    kinds = [WEIGHTS, *[TEMPLATE] * len(layers)]
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": entry(CONFIG, config),
        "layers": [entry(kind, layer) for kind, layer in zip(kinds, layers, strict=False)],
    }
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


@dataclass(frozen=True)
class Store:
    """A folder laid out as $OLLAMA_MODELS."""

    root: Path

    @property
    def place(self) -> StorePlace:
        return StorePlace(str(self.root))

    def write(self, path: str, content: bytes) -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        return target

    def blob(self, content: bytes) -> str:
        self.write(blob_path(digest(content)), content)
        return digest(content)

    def part(self, content: bytes, length: int) -> None:
        """The first `length` bytes of a blob, staged."""
        self.write(stage_path(digest(content)), content[:length])

    def model(self, name: str, *contents: bytes) -> Manifest:
        """A whole model: config first, then its layers."""
        for content in contents:
            self.blob(content)
        raw = manifest_of(*contents)
        self.write(manifest_path(parse_name(name)), raw)
        return parse_manifest(raw)

    def manifest(self, name: str | ModelName) -> bytes:
        parsed = parse_name(name) if isinstance(name, str) else name
        return (self.root / manifest_path(parsed)).read_bytes()

    def files(self) -> dict[str, bytes]:
        """Every file that Ollama can see, with its content."""
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for folder in ("manifests", "blobs")
            for path in sorted((self.root / folder).rglob("*"))
            if path.is_file()
        }

    def staged(self) -> list[str]:
        """What lies in the stage besides the recipes."""
        return sorted(path.name for path in (self.root / STAGE).glob("*") if path.name != "recipes")
