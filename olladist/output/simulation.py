"""What a simulation shows: one row for each placement, the least that is possible below."""

from collections.abc import Sequence
from statistics import geometric_mean

from rich.table import Table

from olladist.output.documents import (
    SimulateDocument,
    SimulatedSpread,
    SimulatedStrategy,
    SuiteDocument,
    SuiteRule,
    SuiteShape,
)
from olladist.output.table import NONE, plain_table
from olladist.sim.virtual.compare import Result
from olladist.sim.virtual.report import Spread
from olladist.sim.virtual.scenario import Scenario
from olladist.sim.virtual.suite import QUANTITIES, Compared

_HEADINGS = ("STRATEGY", "MEAN", "P50", "P95", "P99", "× BOUND", "TOTAL P95", "LOADS", "SLOT USE", "FAIRNESS", "CUT")

_SUITE = (
    "SHAPE",
    "MEAN",
    "P95",
    "P99",
    "× BEST RULE'S MEAN",
    "P95",
    "P99",
    "BOUND P95",
    "× BOUND",
    "LOADS",
    "BEST RULE",
    "SAMPLES",
)


def result_table(results: Sequence[Result], bound: Spread) -> Table:
    """Seconds to the first token, but for the total; `× BOUND` compares p95 with the least that is possible."""
    table = plain_table(*_HEADINGS)
    for result in results:
        figures = result.figures
        table.add_row(
            result.strategy,
            *_seconds(figures.first),
            f"{_ratio(figures.first, bound):.1f}",
            f"{figures.total.p95:.1f}",
            str(figures.loads),
            f"{figures.slot_use:.0%}",
            f"{figures.fairness:.2f}",
            str(figures.cut),
        )
    table.add_row("(bound)", *_seconds(bound), "1.0", *[NONE] * 5)
    return table


def describe_simulation(scenario: Scenario, results: Sequence[Result], bound: Spread) -> SimulateDocument:
    return SimulateDocument(
        requests=len(scenario.jobs),
        hosts=len(scenario.hosts),
        models=len(scenario.models),
        bound=_spread(bound),
        strategies=tuple(
            SimulatedStrategy(
                name=result.strategy,
                first=_spread(result.figures.first),
                total=_spread(result.figures.total),
                to_bound=_ratio(result.figures.first, bound),
                loads=result.figures.loads,
                slot_use=result.figures.slot_use,
                fairness=result.figures.fairness,
                cut=result.figures.cut,
                decision_us=result.decision * 1e6,
            )
            for result in results
        ),
    )


def suite_table(compared: Sequence[Compared]) -> Table:
    """One row for each shape: seconds to the first token, as parts of what the best rule has, and of the bound; `!` where a rule is better."""
    table = plain_table(*_SUITE)
    for row in compared:
        table.add_row(
            row.shape.name,
            *(f"{getattr(row.ours, quantity):.1f}" for quantity in QUANTITIES),
            *(f"{_to_best(row, quantity):.2f}{'!' * (quantity in row.worse_in)}" for quantity in QUANTITIES),
            f"{row.bound.p95:.1f}",
            f"{_ratio(row.ours, row.bound):.1f}",
            f"{row.loads:.0f}",
            row.best("p95")[0],
            str(row.samples),
        )
    return table


def to_bound(compared: Sequence[Compared]) -> float:
    """How far p95 is above the least that is possible: the geometric mean over the shapes."""
    return geometric_mean(_ratio(row.ours, row.bound) for row in compared)


def describe_suite(compared: Sequence[Compared], samples: int) -> SuiteDocument:
    return SuiteDocument(
        samples=samples,
        to_bound=to_bound(compared),
        shapes=tuple(
            SuiteShape(
                name=row.shape.name,
                ours=_spread(row.ours),
                bound=_spread(row.bound),
                to_bound=_ratio(row.ours, row.bound),
                best=tuple(
                    SuiteRule(quantity=q, rule=row.best(q)[0], seconds=row.best(q)[1], ratio=_to_best(row, q))
                    for q in QUANTITIES
                ),
                worse_in=row.worse_in,
                samples=row.samples,
                loads=row.loads,
                decision_us=row.decision * 1e6,
            )
            for row in compared
        ),
    )


def _to_best(row: Compared, quantity: str) -> float:
    best = row.best(quantity)[1]
    return float(getattr(row.ours, quantity)) / best if best else 1.0


def _seconds(spread: Spread) -> list[str]:
    return [f"{value:.2f}" for value in (spread.mean, spread.p50, spread.p95, spread.p99)]


def _ratio(spread: Spread, bound: Spread) -> float:
    return spread.p95 / bound.p95 if bound.p95 else 1.0


def _spread(spread: Spread) -> SimulatedSpread:
    return SimulatedSpread(mean=spread.mean, p50=spread.p50, p95=spread.p95, p99=spread.p99)
