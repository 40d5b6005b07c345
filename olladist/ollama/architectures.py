"""What an Ollama does with a model because of its architecture, whatever its settings say."""

from collections.abc import Mapping
from typing import Any, Final

# Not safe with more than one request at once, or only good for embeddings (server/sched.go load): one slot each. Embedding models of
# other families are told by their GGUF alone, which no listing shows.
_ONE_SLOT: Final = frozenset(
    {
        "mllama", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe", "qwen3next", "lfm2", "lfm2moe", "nemotron_h", "nemotron_h_moe",
        "bert", "nomic-bert", "nomic-bert-moe",
    }
)  # fmt: skip


def has_one_slot(fields: Mapping[str, Any]) -> bool:
    """Whether a model gets one slot on any Ollama; `fields` is its row in /api/tags."""
    details = fields.get("details")
    return isinstance(details, dict) and str(details.get("family")) in _ONE_SLOT
