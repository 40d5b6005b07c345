"""`olladist simulate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from olladist.output.screen import Screen
    from olladist.sim.virtual.scenario import Scenario, Shape


def simulate(
    context: typer.Context,
    hosts: Annotated[int, typer.Option(min=1, max=10_000, help="How many hosts.")] = 8,
    models: Annotated[int, typer.Option(min=1, max=1000, help="How many models there are.")] = 12,
    load: Annotated[
        float, typer.Option(min=0.01, max=5.0, help="What comes, as a part of what all slots could do.")
    ] = 0.8,
    skew: Annotated[float, typer.Option(min=0.0, max=5.0, help="How unequal models are asked for (Zipf).")] = 1.0,
    requests: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many requests.")] = 3000,
    slots: Annotated[int, typer.Option(min=1, max=64, help="OLLAMA_NUM_PARALLEL of each host.")] = 2,
    models_max: Annotated[int, typer.Option(min=1, max=64, help="Models that a host has in memory at once.")] = 2,
    sharing: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="How much requests on a host slow each other down.")
    ] = 0.0,
    burst: Annotated[float, typer.Option(min=1.0, max=1000.0, help="How many requests come at once.")] = 1.0,
    turns: Annotated[float, typer.Option(min=1.0, max=100.0, help="How many turns a conversation has.")] = 1.0,
    failing: Annotated[float, typer.Option(min=0.0, max=1.0, help="Part of the hosts that fail once.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Another one gives another sample of the same.")] = 1,
    strategy: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this one; may be given several times.")
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Requests as JSON lines, in place of made ones; - is stdin.")
    ] = None,
    suite: Annotated[
        bool, typer.Option("--suite", help="Sixty-seven fleets in place of one, from idle to overloaded.")
    ] = False,
    samples: Annotated[
        int, typer.Option(min=1, max=100, help="How many of each fleet the suite takes the mean of, on all cores.")
    ] = 3,
) -> int:
    """Compare how requests are placed, in virtual time, on a fleet of any size.

    Prints the time to the first token, loads and slot use for each strategy and for the rules of other gateways, and how far each is from the least that is
    possible. Hosts load one model at a time, serve as many requests as they have slots, and evict as Ollama does. No host is needed.

    With --suite it prints one row for each of sixty-seven fleets, and fails where any rule is better than ours by more than 5 %. Where one seems to be, four times
    as many samples are taken before that is said. Only --requests, --seed and --samples count then.
    """
    from dataclasses import replace

    from olladist.cli.options import Globals
    from olladist.output.screen import open_screen
    from olladist.sim.virtual.scenario import Shape, make

    options = context.find_object(Globals) or Globals()
    screen = open_screen(json=options.json)
    if suite:
        return _suite(screen, requests, seed, samples)
    names = _chosen(strategy, seed)
    shape = Shape("fleet", hosts, models, load, skew, requests, slots, models_max, burst=burst, turns=turns)
    shape = replace(shape, sharing=sharing, failing=failing, seed=seed)
    _compare(screen, make(shape) if trace is None else _replayed(shape, trace), names, seed)
    return 0


def _compare(screen: "Screen", scenario: "Scenario", names: tuple[str, ...], seed: int) -> None:
    from rich.text import Text

    from olladist.output.simulation import describe_simulation, result_table
    from olladist.sim.virtual.compare import compare
    from olladist.sim.virtual.report import lower_bound

    screen.talk(Text(f"{len(scenario.jobs)} requests on {len(scenario.hosts)} hosts, {len(scenario.models)} models"))
    results = []
    for result in compare(scenario, names, seed):
        results.append(result)
        screen.talk(Text(f"{result.strategy} is done ({len(results)} of {len(names)})"))
    bound = lower_bound(scenario)
    screen.show(result_table(results, bound))
    screen.document(describe_simulation(scenario, results, bound))


def _suite(screen: "Screen", requests: int, seed: int, samples: int) -> int:
    from rich.text import Text

    from olladist.output.simulation import describe_suite, suite_table, to_bound
    from olladist.sim.virtual.suite import run, shapes

    chosen = shapes(requests)
    compared = []
    for row in run(chosen, range(seed, seed + samples)):
        compared.append(row)
        screen.talk(Text(f"{row.shape.name} is done ({len(compared)} of {len(chosen)})"))
    compared.sort(key=lambda row: chosen.index(row.shape))
    screen.show(suite_table(compared))
    screen.document(describe_suite(compared, samples))
    worse = [f"{row.shape.name} ({', '.join(row.worse_in)})" for row in compared if row.worse_in]
    screen.talk(Text(f"p95 is {to_bound(compared):.2f} times the bound's in the geometric mean"))
    screen.talk(Text(f"worse than a rule by more than 5 %: {'; '.join(worse) or 'none'}"))
    return 1 if worse else 0


def _chosen(strategy: list[str] | None, seed: int) -> tuple[str, ...]:
    """All of them where none is named."""
    from olladist.errors import UsageError
    from olladist.sim.virtual.compare import strategies

    known = strategies(seed)
    unknown = [name for name in strategy or () if name not in known]
    if unknown:
        raise UsageError(f"there is no strategy {unknown[0]!r}", hint=f"one of {', '.join(known)}")
    return tuple(dict.fromkeys(strategy or known))


def _replayed(shape: "Shape", trace: Path) -> "Scenario":
    """The fleet of `shape` with the requests of a file."""
    import sys

    from olladist.errors import UsageError
    from olladist.sim.virtual.scenario import read_trace, replayed

    try:
        jobs = read_trace(sys.stdin.buffer if str(trace) == "-" else trace.read_bytes().splitlines())
    except OSError as error:
        raise UsageError(f"{trace} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{trace}: {error}", hint=_TRACE) from error
    if not jobs:
        raise UsageError(f"{trace} holds no requests", hint=_TRACE)
    return replayed(shape, jobs)


_TRACE = 'a line for each request: {"at": 1.5, "model": "llama3.2:3b", "prompt": 700, "output": 120}'
