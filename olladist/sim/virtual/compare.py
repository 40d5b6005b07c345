"""All placements on one scenario."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from olladist.sim.virtual.late import Late
from olladist.sim.virtual.report import Figures, figures
from olladist.sim.virtual.rules import AtOnce, rules
from olladist.sim.virtual.scenario import Scenario
from olladist.sim.virtual.world import simulate

ADAPTIVE = "adaptive"


@dataclass(frozen=True, slots=True)
class Result:
    """`decision` are this process's seconds for one request; 0 where it was not measured."""

    strategy: str
    figures: Figures
    decision: float = 0.0


def strategies(seed: int = 1) -> tuple[str, ...]:
    """Their names: ours first, then the rules of peers."""
    return (ADAPTIVE, *rules(seed))


def compare(scenario: Scenario, names: Sequence[str], seed: int = 1) -> Iterator[Result]:
    """One result after the other, for some take long; the same seed gives the same ones."""
    for name in names:
        if name == ADAPTIVE:
            yield _adaptive(scenario)
        else:
            yield Result(name, figures(simulate(scenario, partial(AtOnce, rule=rules(seed)[name]))))


def _adaptive(scenario: Scenario) -> Result:
    world = simulate(scenario, partial(Late, scenario=scenario))
    return Result(ADAPTIVE, figures(world), world.placement.deciding / max(1, world.placement.decided))
