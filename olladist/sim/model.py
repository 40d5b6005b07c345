"""What a model is made of, as the store has it, and what that lets it do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from olladist.ollama.manifest import Manifest
from olladist.ollama.names import ModelName
from olladist.sim import gguf
from olladist.sim.golang import Document

DEFAULT_TEMPLATE = "{{ .Prompt }}"

# Architectures that Ollama never runs in parallel (server/sched.go load).
_ONE_SLOT = frozenset(
    [
        "mllama",
        "qwen3vl",
        "qwen3vlmoe",
        "qwen35",
        "qwen35moe",
        "qwen3next",
        "lfm2",
        "lfm2moe",
        "nemotron_h",
        "nemotron_h_moe",
    ]
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A manifest that is there: what /api/tags shows."""

    name: ModelName
    manifest: Manifest
    modified: int  # nanoseconds
    document: Document  # the manifest as JSON, with what Manifest drops


@dataclass(frozen=True, slots=True)
class Model:
    """Everything the store knows about one model."""

    entry: Entry
    config: Document
    weights: Path | None = None
    head: gguf.Gguf | None = None  # of the weights
    parent: str = ""
    template: str = DEFAULT_TEMPLATE
    system: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    messages: Sequence[Mapping[str, str]] = ()
    licenses: Sequence[str] = ()

    @property
    def name(self) -> ModelName:
        return self.entry.name

    @property
    def key(self) -> str:
        """What tells runners apart: the weights, whatever the name (schedulerModelKey)."""
        return str(self.weights) if self.weights else f"digest:{self.entry.manifest.digest}"

    @property
    def size(self) -> int:
        return self.weights.stat().st_size if self.weights and self.weights.exists() else 0

    @property
    def trained_context(self) -> int:
        """Longest context the weights were made for; num_ctx beyond it is cut to it."""
        return (self.head.number("context_length") if self.head else 0) or 2**31

    @property
    def capabilities(self) -> list[str]:
        """What the weights and the template can do (Model.Capabilities)."""
        found: list[str] = []
        if self.head is not None:
            embeds = f"{self.head.architecture}.pooling_type" in self.head.metadata
            found.append("embedding" if embeds else "completion")
            if f"{self.head.architecture}.vision.block_count" in self.head.metadata:
                found.append("vision")
        else:
            found += self.config.get("capabilities") or []
        for mark, capability in ((".Tools", "tools"), (".Suffix", "insert"), ("<think>", "thinking")):
            if mark in self.template:
                found.append(capability)
        return found

    def slots(self, parallel: int) -> int:
        """OLLAMA_NUM_PARALLEL, or 1 for models that only embed and for some architectures."""
        alone = "completion" not in self.capabilities or self.config.get("model_family") in _ONE_SLOT
        return 1 if alone else parallel


def read_head(path: Path) -> gguf.Gguf | None:
    """What a GGUF says about itself, kept until the file changes; None for a file that is none."""
    state = path.stat()
    return _read_head(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _read_head(path: Path, size: int, modified: int) -> gguf.Gguf | None:
    try:
        return gguf.read(path)
    except gguf.NotGGUF:
        return None


def details(config: Document, parent: str = "") -> Document:
    return {
        "parent_model": parent,
        "format": config.get("model_format", ""),
        "family": config.get("model_family", ""),
        "families": config.get("model_families"),
        "parameter_size": config.get("model_type", ""),
        "quantization_level": config.get("file_type", ""),
    }
