"""The simulated registry: a few names that everybody knows, each a tiny model that says one sentence."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from olladist.ollama.manifest import MODEL_LAYER
from olladist.ollama.names import ModelName
from olladist.sim import gguf
from olladist.sim.store import TEMPLATE

KNOWN: Mapping[str, str] = {
    "registry.ollama.ai/library/llama3.2:1b": "Small models answer fast.",
    "registry.ollama.ai/library/llama3.2:3b": "Three billion weights are not many any more.",
    "registry.ollama.ai/library/qwen3:0.6b": "The smallest of a large family speaks.",
    "registry.ollama.ai/library/gemma3:1b": "A gem of one billion weights.",
}


@dataclass(frozen=True, slots=True)
class Package:
    """A model as the registry has it: media type and content of each layer."""

    layers: tuple[tuple[str, bytes], ...]


def find(name: ModelName) -> Package | None:
    sentence = KNOWN.get(name.key)
    return _package(name.key, sentence) if sentence else None


@lru_cache(maxsize=8)
def _package(title: str, sentence: str) -> Package:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.gguf")
        gguf.write(path, sentence, title=title)
        return Package(((MODEL_LAYER, path.read_bytes()), (TEMPLATE, b"{{ .System }} {{ .Prompt }}")))
