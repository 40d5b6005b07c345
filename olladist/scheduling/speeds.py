"""How fast hosts load and run models, learned from the final chunks of answers; from sizes until there are any.

Ollama's final chunk says exactly how long a load, the prompt and the answer took (api/types.go Metrics). Means are
exponential, so that a host that got a second user, or hot, is seen within a few answers.
"""

from dataclasses import dataclass, field
from typing import TypeVar

_Key = TypeVar("_Key")

# What a new value counts for once there are enough of them; the first ones are averaged. Rates change with what a host does and
# vary little, lengths of answers are the other way round.
_NEWEST_RATE = 0.25
_NEWEST_LENGTH = 0.02

# What is taken for true of a host about which nothing is known: an 8 GB model on a middling GPU over NVMe.
LOAD_BYTES_PER_SECOND = 1.5e9
PROMPT_TOKENS_PER_SECOND = 1500.0
OUTPUT_TOKENS_PER_SECOND = 40.0
_PRIOR_SIZE = 8e9
# Starting a runner takes this long for the smallest model.
LOAD_SECONDS_MIN = 0.5
OUTPUT_TOKENS = 200.0
PROMPT_TOKENS = 500.0
# Bounds against garbage in final chunks: clocks that jump make durations of zero, or of days.
_RATE_MIN, _RATE_MAX = 1e-2, 1e6


@dataclass(slots=True)
class Mean:
    """Exponential mean; `count` values have gone into it."""

    value: float = 0.0
    count: int = 0

    def add(self, value: float, newest: float = _NEWEST_RATE) -> None:
        self.count += 1
        self.value += (value - self.value) * max(newest, 1.0 / self.count)

    def or_else(self, prior: float) -> float:
        return self.value if self.count else prior


@dataclass(slots=True)
class Speeds:
    """`size` of a model is bytes of weights; tokens per second are those of one slot."""

    _loads: dict[int, Mean] = field(default_factory=dict)
    _prompts: dict[tuple[int, str], Mean] = field(default_factory=dict)
    _outputs: dict[tuple[int, str], Mean] = field(default_factory=dict)
    _hosts: dict[int, Mean] = field(default_factory=dict)  # how much faster than the prior, over all models
    _prompt_tokens: dict[str, Mean] = field(default_factory=dict)
    _output_tokens: dict[str, Mean] = field(default_factory=dict)

    def loaded(self, host: int, size: int, seconds: float) -> None:
        if size > 0 and seconds > 0:
            _mean(self._loads, host).add(min(max(size / seconds, 1e6), 1e12))

    def answered(self, host: int, model: str, size: int, prompt: tuple[int, float], output: tuple[int, float]) -> None:
        """`prompt` and `output` are (tokens, seconds); what is not above zero says nothing."""
        for (tokens, seconds), means, lengths, prior in (
            (prompt, self._prompts, self._prompt_tokens, PROMPT_TOKENS_PER_SECOND),
            (output, self._outputs, self._output_tokens, OUTPUT_TOKENS_PER_SECOND),
        ):
            if tokens > 0:
                _mean(lengths, model).add(tokens, _NEWEST_LENGTH)
            if tokens > 0 and seconds > 0:
                rate = min(max(tokens / seconds, _RATE_MIN), _RATE_MAX)
                _mean(means, (host, model)).add(rate)
                _mean(self._hosts, host).add(rate / (prior * _relative(size)))

    def load_seconds(self, host: int, size: int) -> float:
        known = self._loads.get(host)
        return max(size / (known.value if known else LOAD_BYTES_PER_SECOND), LOAD_SECONDS_MIN)

    def prompt_seconds(self, host: int, model: str, size: int, tokens: float) -> float:
        return tokens / self._rate(self._prompts, host, model, size, PROMPT_TOKENS_PER_SECOND)

    def output_seconds(self, host: int, model: str, size: int) -> float:
        rate = self._rate(self._outputs, host, model, size, OUTPUT_TOKENS_PER_SECOND)
        known = self._output_tokens.get(model)
        return (known.value if known else OUTPUT_TOKENS) / rate

    def service_seconds(self, host: int, model: str, size: int) -> float:
        """How long an ordinary request for `model` keeps a slot of `host`."""
        known = self._prompt_tokens.get(model)
        tokens = known.value if known else PROMPT_TOKENS
        return self.prompt_seconds(host, model, size, tokens) + self.output_seconds(host, model, size)

    def output_rate(self, host: int, model: str, size: int) -> float:
        """Tokens per second of an answer."""
        return self._rate(self._outputs, host, model, size, OUTPUT_TOKENS_PER_SECOND)

    def has_measured(self, host: int, model: str) -> bool:
        """Whether it is known, and not only guessed, how fast it answers with this model."""
        return (host, model) in self._outputs or (host, model) in self._prompts

    def knows(self, host: int) -> bool:
        """Whether anything was learned of how fast it answers."""
        return host in self._hosts

    def _rate(self, means: dict[tuple[int, str], Mean], host: int, model: str, size: int, prior: float) -> float:
        known = means.get((host, model))
        if known:
            return known.value
        faster = self._hosts.get(host)
        return prior * _relative(size) * (faster.value if faster else 1.0)


def _relative(size: int) -> float:
    """Reading the weights is what a token costs: twice the size, half the speed."""
    return _PRIOR_SIZE / max(size, 1e8)


def _mean(means: dict[_Key, Mean], key: _Key) -> Mean:
    if key not in means:
        means[key] = Mean()
    return means[key]
