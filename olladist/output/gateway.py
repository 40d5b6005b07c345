"""A running gateway for people: its processes, its nodes, and what a reload has changed."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from olladist.output.documents import ChangedSetting, GatewayNode, ProxyReloadDocument, RunningGateway
from olladist.output.table import NONE, plain_table
from olladist.units import duration

_COLOURS = {"up": "green", "degraded": "yellow", "drained": "yellow", "down": "red"}


def gateway_block(gateway: RunningGateway) -> RenderableType:
    """What it is on two lines, then a line for each node."""
    settings = [word for word in (gateway.mode, gateway.strategy, gateway.transport) if word]
    settings.append(f"up for {duration(gateway.uptime_seconds)}")
    settings.append(f"olladist {gateway.olladist}")
    processes = [
        f"supervisor {gateway.pid}",
        *(f"{each.name} {each.pid or 'is being started'}" for each in gateway.processes),
    ]
    lines = [Text(f"{gateway.url}: {', '.join(settings)}"), Text(f"processes: {', '.join(processes)}")]
    if gateway.problem:
        lines.append(Text(f"problem: {gateway.problem}", "red"))
    if not gateway.nodes:
        return Group(*lines)
    table = plain_table("NODE", "STATE", "IN FLIGHT", "SLOTS", "MODELS", "OLLAMA", "WAY", "NOTE")
    for node in gateway.nodes:
        state, note = _state(node)
        table.add_row(
            node.name,
            Text(state, _COLOURS.get(state, "")),
            str(node.in_flight),
            str(node.slots),
            str(node.models),
            node.ollama or NONE,
            node.way,
            note or NONE,
        )
    return Group(*lines, table)


def _state(node: GatewayNode) -> tuple[str, str]:
    """A drained node is that first; whether it is well besides stands in the note."""
    if not node.drained:
        return node.state, node.reason
    return "drained", node.reason or ("" if node.state == "up" else node.state)


def reload_block(done: ProxyReloadDocument) -> RenderableType:
    lines = [*_changes(done)]
    return Group(Text(f"reloaded {done.url}" + ("" if lines else ": nothing has changed")), *map(Text, lines))


def _changes(done: ProxyReloadDocument) -> Iterator[str]:
    yield from (f"  + {node}" for node in done.added)
    yield from (f"  - {node}: gets no new work, and finishes what runs there" for node in done.removed)
    yield from (f"  ~ {_words(changed)}" for changed in (*done.changed, *done.settings))
    yield from (
        f"  ! {_words(changed)}: needs a restart, `olladist proxy --replace` does it" for changed in done.needs_restart
    )


def _words(changed: ChangedSetting) -> str:
    return f"{changed.name}: {changed.before or 'none'} -> {changed.after or 'none'}"
