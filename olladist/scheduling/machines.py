"""What a placement knows of the machines: which models are in whose memory, who runs what, where there is room."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace


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
    """`slots` for each model; `models_max` at once; `memory` in bytes, None where nobody knows.

    One that is up and not `well` gets work only where no other can take it.
    """

    id: int
    slots: int = 1
    models_max: int = 3
    memory: int | None = None
    up: bool = True
    well: bool = True
    runners: dict[str, Runner] = field(default_factory=dict)
    unloaded: dict[str, float] = field(default_factory=dict)  # when we have had models unloaded
    switch: Switch | None = None

    @property
    def loading(self) -> bool:
        return any(runner.loading for runner in self.runners.values())

    def has_room(self, size: int, size_of: Callable[[str], int]) -> bool:
        """Whether a model of `size` bytes fits beside what is loaded."""
        if len(self.runners) >= self.models_max:
            return False
        used = sum(map(size_of, self.runners))
        return self.memory is None or used + size <= self.memory or not self.runners

    def idle(self) -> Iterator[Runner]:
        return (runner for runner in self.runners.values() if not runner.running and not runner.loading)

    def copied(self) -> "Machine":
        runners = {name: runner.copied() for name, runner in self.runners.items()}
        switch = replace(self.switch) if self.switch is not None else None
        return replace(self, runners=runners, unloaded=dict(self.unloaded), switch=switch)
