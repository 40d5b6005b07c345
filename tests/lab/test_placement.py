"""Where requests go, on real hosts that have room for two of five models: what `adaptive` saves is loads."""

import asyncio
import random
from collections.abc import Iterator

import pytest

from bench.real_fleet import MODELS, Fleet, fleet, replay
from olladist.sim.virtual.scenario import Job

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

REQUESTS, SECONDS = 40, 12.0


@pytest.fixture(scope="module")
def real() -> Iterator[Fleet]:
    with fleet(("box81", "box82", "box83")) as hosts:
        yield hosts


def jobs() -> list[Job]:
    """Short ones for all models, the first most often; the same ones each time."""
    dice = random.Random(1)  # noqa: S311  to be repeated
    popularity = [1 / (rank + 1) for rank in range(len(MODELS))]
    times = sorted(dice.uniform(0, SECONDS) for _ in range(REQUESTS))
    return [Job(n, at, dice.choices(list(MODELS), popularity)[0], 12, 12) for n, at in enumerate(times)]


def loads(real: Fleet, strategy: str) -> int:
    """How often a model was loaded for all requests; one that is not answered whole fails."""
    with real.gateway(strategy) as url:
        before = sum(real.slow.loads.values())
        asyncio.run(replay(url, jobs()))
        return sum(real.slow.loads.values()) - before


def test_adaptive_loads_models_fewer_times_than_round_robin(real: Fleet) -> None:
    """Each host would load each model sooner or later, and again; waiting for one that has it is less."""
    adaptive = loads(real, "adaptive")
    in_turn = loads(real, "round-robin")

    assert len(MODELS) <= adaptive < in_turn
