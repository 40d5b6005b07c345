"""What a placement knows of the machines: which models are in whose memory, who runs what, where there is room."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from olladist.scheduling.demand import weights
from olladist.scheduling.memory import Memory


@dataclass(slots=True)
class Runner:
    """A model in the memory of a machine, or on its way there. `running` is tickets and when they were bound."""

    model: str
    slots: int
    loading: bool
    since: float
    running: dict[int, float] = field(default_factory=dict)

    @property
    def free(self) -> int:
        return self.slots - len(self.running)

    def copied(self) -> "Runner":
        return replace(self, running=dict(self.running))


@dataclass(slots=True)
class Switch:
    """`out` gets no new work; when it is idle it is unloaded and `into` is loaded in its place."""

    out: str
    into: str
    since: float


@dataclass(slots=True)
class Machine:
    """`slots` for each model, but for those in `fewer`; `models_max` at once, as far as `memory` holds them. `ours` is the part of it that nobody
    else uses past us, 0 to 1.

    One that is up and not `well` gets work only where no other can take it.
    """

    id: int
    slots: int = 1
    models_max: int = 3
    memory: Memory | None = None
    fewer: Mapping[str, int] = field(default_factory=dict)
    ours: float = 1.0
    up: bool = True
    well: bool = True
    runners: dict[str, Runner] = field(default_factory=dict)
    unloaded: dict[str, float] = field(default_factory=dict)  # when we have had models unloaded
    switch: Switch | None = None

    @property
    def loading(self) -> bool:
        return any(runner.loading for runner in self.runners.values())

    @property
    def running(self) -> int:
        """Requests for any model."""
        return sum(len(runner.running) for runner in self.runners.values())

    def slots_of(self, model: str) -> int:
        """Requests for the model that it works on at once."""
        return max(1, min(self.slots, self.fewer.get(weights(model), self.slots))) if self.fewer else self.slots

    def has_room(self, model: str, size_of: Callable[[str], int], without: str | None = None) -> bool:
        """Whether the model fits beside what is loaded, `without` one of those."""
        beside = {weights(name) for name in self.runners if name != without}
        if len(beside) >= self.models_max:
            return False
        return self.memory is None or self.memory.fits(beside, weights(model), size_of)

    def idle(self) -> Iterator[Runner]:
        return (runner for runner in self.runners.values() if not runner.running and not runner.loading)

    def copied(self) -> "Machine":
        runners = {name: runner.copied() for name, runner in self.runners.items()}
        switch = replace(self.switch) if self.switch is not None else None
        return replace(self, runners=runners, unloaded=dict(self.unloaded), switch=switch)
