"""How much a host's memory holds, learned from what was seen in it together and from what had to go.

Ollama loads a model beside others where it fits, and unloads some where it does not (server/sched.go); the sum that it compares with is in
no answer. What was loaded together has fitted; where a load made another model go, both together have not. Between the two
a load is tried: its mistake costs one load, once.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from olladist.scheduling.residents import Resident

# Caches and buffers beside the weights, where the model was never seen in memory: an 8B model of 5 GB takes 6 with 4096 tokens of context.
OVERHEAD = 1.2
# What did not fit is tried again after so long: somebody else may have used the GPU.
FORGOTTEN = 3600.0
# Models of one host whose need is remembered.
MODELS_MAX = 256

# Bytes of a model's weights.
SizeOf = Callable[[str], int]


@dataclass(slots=True)
class Memory:
    """One host. `proven` bytes have fitted, `refuted` have not, as last seen at `at`; inf where nothing is known to be too much."""

    proven: float = 0.0
    refuted: float = math.inf
    at: float = 0.0
    _needs: dict[str, int] = field(default_factory=dict)

    def seen(self, rows: Mapping[str, Resident], now: float) -> None:
        """What is in memory together now."""
        for model, row in rows.items():
            if row.size > 0:
                self._needs.pop(model, None)
                self._needs[model] = row.size
        while len(self._needs) > MODELS_MAX:
            del self._needs[next(iter(self._needs))]
        # What a GPU has no room for lies beside it, of one model that is larger than all of it: that much more does not fit.
        on_gpu = sum(row.vram for row in rows.values())
        together = on_gpu or sum(row.size for row in rows.values())
        self.proven = max(self.proven, together)
        if self.refuted <= self.proven or now - self.at > FORGOTTEN:
            self.refuted = math.inf

    def overflowed(self, before: Collection[str], came: str, size_of: SizeOf, now: float) -> None:
        """To load `came`, Ollama had to unload some of those that were there before."""
        total = self._sum({*before, came}, size_of)
        if not before or total <= 0:
            return
        self.refuted = min(self.refuted, total)
        self.proven = min(self.proven, self._sum(before, size_of))
        self.at = now

    def fits(self, beside: Collection[str], model: str, size_of: SizeOf) -> bool:
        """Whether the model can be loaded without any of the others having to go, as far as is known. The first always can."""
        return not beside or self._sum({*beside, model}, size_of) < self.refuted

    def need(self, model: str, size_of: SizeOf) -> float:
        """Bytes that it takes, as seen or guessed."""
        return self._needs.get(model) or size_of(model) * OVERHEAD

    def _sum(self, models: Collection[str], size_of: SizeOf) -> float:
        return sum(self.need(model, size_of) for model in models)
