"""A running gateway for people: its processes, its nodes, and what a reload has changed."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from olladist.output.documents import (
    ChangedSetting,
    GatewayNode,
    GatewayQueue,
    ProxyExplainDocument,
    ProxyReloadDocument,
    RunningGateway,
)
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
    lines: list[RenderableType] = [
        Text(f"{gateway.url}: {', '.join(settings)}"),
        Text(f"processes: {', '.join(processes)}"),
    ]
    if gateway.problem:
        lines.append(Text(f"problem: {gateway.problem}", "red"))
    if gateway.nodes:
        lines.append(_nodes(gateway))
    return Group(*lines, *_queue(gateway.queue))


def _nodes(gateway: RunningGateway) -> RenderableType:
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
    return table


def _queue(queue: GatewayQueue) -> Iterator[RenderableType]:
    """Nothing where nothing waits or runs: what is in memory stands with the nodes."""
    shown = [each for each in queue.models if each.waiting or each.running]
    if queue.waiting:
        yield Text(
            f"waiting: {queue.waiting} of at most {queue.waiting_max}, the first for {duration(queue.oldest_wait)}"
        )
    if not shown:
        return
    table = plain_table("MODEL", "WAITING", "OLDEST", "RUNNING", "SLOTS", "ONE MORE WAITS")
    for each in shown:
        table.add_row(
            each.names[0] + (f" ({each.options})" if each.options else ""),
            str(each.waiting),
            duration(each.oldest_wait) if each.waiting else NONE,
            str(each.running),
            str(each.slots),
            NONE if each.estimated_wait is None else duration(each.estimated_wait) if each.estimated_wait else "not",
        )
    yield table


def explain_block(explained: ProxyExplainDocument) -> RenderableType:
    """Where it goes, and a line for each node that says why it is the one, or is not."""
    what = explained.model + (f" with {explained.options}" if explained.options else "")
    asker = f", by the key {explained.key}" if explained.key else ""
    head = Text(f"{what}{asker}: {explained.text} ({explained.strategy}, {explained.mode})")
    table = plain_table("NODE", "STATE", "MODEL", "SLOTS", "WAIT", "LOAD", "TOKENS/S", "GAIN", "HARM", "WHY")
    for node in explained.nodes:
        state = "drained" if node.drained else node.state
        table.add_row(
            node.node,
            Text(state, _COLOURS.get(state, "")),
            "in memory" if node.in_memory else "on disk" if node.has_model else NONE,
            f"{node.running}/{node.slots}",
            _seconds(node.wait),
            _seconds(node.load),
            NONE if node.tokens_per_second is None else f"{'' if node.learned else '~'}{node.tokens_per_second:.0f}",
            _seconds(node.gain),
            _seconds(node.harm),
            Text(node.text, "green" if node.node == explained.node else ""),
        )
    more = [Text(f"and {explained.left_out} more")] if explained.left_out else []
    return Group(head, table, *more)


def _seconds(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f} s"


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
