"""How fast hosts load and run models, learned from the final chunks of answers; from sizes until there are any.

Ollama's final chunk says exactly how long a load, the prompt and the answer took (api/types.go Metrics). Means are
exponential, so that a host that got a second user, or hot, is seen within some twenty answers.
"""

from dataclasses import dataclass, field
from typing import TypeVar

_Key = TypeVar("_Key")

# What a new value counts for once there are enough of them; the first ones are averaged. How fast an answer is depends on what runs
# beside it and what its prompt was, so it takes some to see that a host is slower now; lengths of answers vary more, and loads are rare.
_NEWEST_RATE = 0.05
_NEWEST_LENGTH = 0.02
_NEWEST_LOAD = 0.25

# What is taken for true of a host about which nothing is known: an 8 GB model on a middling GPU over NVMe.
LOAD_BYTES_PER_SECOND = 1.5e9
PROMPT_TOKENS_PER_SECOND = 1500.0
OUTPUT_TOKENS_PER_SECOND = 40.0
_PRIOR_SIZE = 8e9
# Starting a runner takes this long for the smallest model.
LOAD_SECONDS_MIN = 0.5
OUTPUT_TOKENS = 200.0
PROMPT_TOKENS = 500.0
# A request is taken to be so much slower for each other one on its host: a batch of two answers takes a GPU about 1.3 times as long as one
# answer, one of eight about twice. The prior counts for as much as so many answers beside one more than usual, and each new one for so much.
CROWDING = 0.2
_CROWD_PRIOR = 4.0
_NEWEST_CROWD = 0.02
# Bounds against what was learned in one state of a host and is asked for in quite another.
_LONGER_MAX = 4.0
_CROWDED_MIN = 0.25
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
class _Rates:
    """Tokens per second of prompts or of answers. What was not measured is taken for what `prior` says, times what models and hosts do more than it says.

    A host of which nothing is known is taken for one like the others, and a model of which nothing is known likewise.
    """

    prior: float
    measured: dict[tuple[int, str], Mean] = field(default_factory=dict)  # seconds of a token
    _models: dict[str, Mean] = field(default_factory=dict)
    _all: Mean = field(default_factory=Mean)
    _hosts: dict[int, Mean] = field(default_factory=dict)

    def add(self, host: int, model: str, size: int, rate: float) -> None:
        _mean(self.measured, (host, model)).add(1.0 / rate)
        more = rate / (self.prior * _relative(size))
        if model in self._models:  # whoever is first says nothing of itself: the prior may be wrong for all hosts
            _mean(self._hosts, host).add(more / self._models[model].value)
        _mean(self._models, model).add(more / self._host(host))
        self._all.add(self._models[model].value)

    def of(self, host: int, model: str, size: int) -> float:
        known = self.measured.get((host, model))
        if known:
            return 1.0 / known.value
        others = self._models.get(model)
        more = others.value if others else self._all.or_else(1.0)
        return self.prior * _relative(size) * more * self._host(host)

    def knows(self, model: str) -> bool:
        return model in self._models

    def _host(self, host: int) -> float:
        known = self._hosts.get(host)
        return known.value if known else 1.0


@dataclass(slots=True)
class _Crowd:
    """How much slower answers of a host are for each request beside them: a regression of how long a token took on how many there were."""

    square: float = _CROWD_PRIOR
    product: float = _CROWD_PRIOR * CROWDING

    def add(self, more: float, longer: float) -> None:
        """There were so many `more` than in the mean, and a token took so much `longer`, as a part of what it does in the mean."""
        self.square += more * more - (self.square - _CROWD_PRIOR) * _NEWEST_CROWD
        self.product += more * longer - (self.product - _CROWD_PRIOR * CROWDING) * _NEWEST_CROWD

    @property
    def slope(self) -> float:
        return min(max(self.product / self.square, 0.0), 1.0)


@dataclass(slots=True)
class Speeds:
    """`size` of a model is bytes of weights; tokens per second are those of one slot."""

    _loads: dict[int, Mean] = field(default_factory=dict)
    _prompts: _Rates = field(default_factory=lambda: _Rates(PROMPT_TOKENS_PER_SECOND))
    _outputs: _Rates = field(default_factory=lambda: _Rates(OUTPUT_TOKENS_PER_SECOND))
    _prompt_tokens: dict[str, Mean] = field(default_factory=dict)
    _output_tokens: dict[str, Mean] = field(default_factory=dict)
    _crowds: dict[int, _Crowd] = field(default_factory=dict)
    _beside: dict[tuple[int, str], Mean] = field(default_factory=dict)  # how many there were in what was measured
    _usually_beside: dict[str, Mean] = field(default_factory=dict)  # on all hosts
    _known: set[int] = field(default_factory=set)

    def loaded(self, host: int, size: int, seconds: float) -> None:
        if size > 0 and seconds > 0:
            _mean(self._loads, host).add(min(max(size / seconds, 1e6), 1e12), _NEWEST_LOAD)

    def answered(
        self, host: int, model: str, size: int, prompt: tuple[int, float], output: tuple[int, float], beside: int = 0
    ) -> bool:
        """`prompt` and `output` are (tokens, seconds); what is not above zero says nothing. `beside` are the other requests on the host.

        Returns whether it is the first that is known of the model: what is guessed of other hosts changes with it.
        """
        is_first = not (self._outputs.knows(model) or self._prompts.knows(model))
        if (rate := _rate(*output)) is not None:
            self._crowded(host, model, rate, beside)
            self._outputs.add(host, model, size, rate)
            self._known.add(host)
        if (rate := _rate(*prompt)) is not None:
            self._prompts.add(host, model, size, rate)
            self._known.add(host)
        for (tokens, _), lengths in ((prompt, self._prompt_tokens), (output, self._output_tokens)):
            if tokens > 0:
                _mean(lengths, model).add(tokens, _NEWEST_LENGTH)
        return is_first and (self._outputs.knows(model) or self._prompts.knows(model))

    def _crowded(self, host: int, model: str, rate: float, beside: int) -> None:
        usual, known = _mean(self._beside, (host, model)), self._outputs.measured.get((host, model))
        if known:
            crowd = self._crowds.setdefault(host, _Crowd())
            crowd.add(beside - usual.value, min(1.0 / (rate * known.value), _LONGER_MAX) - 1.0)
        usual.add(beside)
        _mean(self._usually_beside, model).add(beside)

    def load_seconds(self, host: int, size: int) -> float:
        known = self._loads.get(host)
        return max(size / (known.value if known else LOAD_BYTES_PER_SECOND), LOAD_SECONDS_MIN)

    def prompt_seconds(self, host: int, model: str, size: int, tokens: float) -> float:
        return tokens / self._prompts.of(host, model, size)

    def output_seconds(self, host: int, model: str, size: int) -> float:
        known = self._output_tokens.get(model)
        return (known.value if known else OUTPUT_TOKENS) / self._outputs.of(host, model, size)

    def service_seconds(self, host: int, model: str, size: int) -> float:
        """How long an ordinary request for `model` keeps a slot of `host`, beside as many others as there usually are."""
        known = self._prompt_tokens.get(model)
        tokens = known.value if known else PROMPT_TOKENS
        return self.prompt_seconds(host, model, size, tokens) + self.output_seconds(host, model, size)

    def crowding(self, host: int, model: str, beside: float) -> float:
        """How many times as long it takes beside so many others on the host."""
        crowd = self._crowds.get(host)
        usual = self._beside.get((host, model)) or self._usually_beside.get(model)
        slope = crowd.slope if crowd else CROWDING
        return max(1.0 + slope * (beside - (usual.value if usual else 0.0)), _CROWDED_MIN)

    def output_rate(self, host: int, model: str, size: int) -> float:
        """Tokens per second of an answer."""
        return self._outputs.of(host, model, size)

    def has_measured(self, host: int, model: str) -> bool:
        """Whether it is known, and not only guessed, how fast it answers with this model."""
        return (host, model) in self._outputs.measured or (host, model) in self._prompts.measured

    def knows(self, host: int) -> bool:
        """Whether anything was learned of how fast it answers."""
        return host in self._known


def _rate(tokens: int, seconds: float) -> float | None:
    return min(max(tokens / seconds, _RATE_MIN), _RATE_MAX) if tokens > 0 and seconds > 0 else None


def _relative(size: int) -> float:
    """Reading the weights is what a token costs: twice the size, half the speed."""
    return _PRIOR_SIZE / max(size, 1e8)


def _mean(means: dict[_Key, Mean], key: _Key) -> Mean:
    if key not in means:
        means[key] = Mean()
    return means[key]
