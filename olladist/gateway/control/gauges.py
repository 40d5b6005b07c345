"""The metrics that say how things are: read when somebody asks, on the loop and in one go, so that they belong together."""

import math
import platform
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from olladist import __version__, is_compiled
from olladist.gateway.control import families
from olladist.gateway.control.lease_server import LeaseServer
from olladist.gateway.control.ledger import Ledger
from olladist.gateway.control.observer import Observer
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.processes import taken
from olladist.gateway.control.queue import Queue
from olladist.gateway.control.roster import Roster
from olladist.gateway.control.series import metric
from olladist.inventory.model import Mode
from olladist.scheduling.health import State


@dataclass(frozen=True, slots=True)
class Scrape(Collector):
    """All metrics as they were at one moment: what is counted, and what was read. Another thread may write it out."""

    counted: CollectorRegistry
    read: tuple[Metric, ...]

    def collect(self) -> Iterator[Metric]:
        yield from self.counted.collect()
        yield from self.read


def scrape(parts: Parts) -> Scrape:
    leases, roster, ledger = parts.leases, parts.roster, parts.dispatcher.ledger
    observer = leases.observer
    read = (
        *_gateway(leases, roster),
        *_workers(leases),
        *_nodes(roster, ledger),
        *_models(observer, roster, ledger),
        *_learned(parts.dispatcher.queue, roster, observer),
        metric(families.KEPT_ANSWERS, [((), len(parts.cache))]),
        metric(families.KEPT_BYTES, [((), parts.cache.bytes)]),
        metric(families.RATE_LIMITED, observer.limits.limited.items()),
    )
    return Scrape(observer.metrics.registry, read)


def _gateway(leases: LeaseServer, roster: Roster) -> Iterator[Metric]:
    yield metric(families.BUILD, [((__version__, platform.python_version(), str(is_compiled()).lower()), 1)])
    yield metric(families.MODE, [((mode.value,), mode is roster.serving.mode) for mode in Mode])
    yield metric(families.IN_FLIGHT, [((), leases.dispatcher.ledger.total)])
    yield metric(families.WAITING, [((), leases.waiting)])
    yield metric(families.WORKERS, [((), sum(worker.hello is not None for worker in leases.workers.values()))])


def _workers(leases: LeaseServer) -> Iterator[Metric]:
    counts = leases.observer.counts
    yield metric(families.WORKER_EVENTS, [((str(worker), event), n) for (worker, event), n in counts.items()])
    hellos = [worker.hello for worker in leases.workers.values() if worker.hello]
    # A worker that was replaced may still be there, finishing streams: the one that came last has the number.
    figures = {str(hello.worker): figure for hello in hellos if (figure := taken(hello.pid))}
    yield metric(families.WORKER_MEMORY, [((name,), figure.resident_bytes) for name, figure in figures.items()])
    yield metric(families.WORKER_CPU, [((name,), figure.cpu_seconds) for name, figure in figures.items()])


def _nodes(roster: Roster, ledger: Ledger) -> Iterator[Metric]:
    known = [(backend, roster.seen[number]) for number, backend in roster.backends.items()]
    yield metric(
        families.NODE_STATE, [((b.node, state.value), seen.state is state) for b, seen in known for state in State]
    )
    yield metric(
        families.NODE_INFO, [((b.node, b.host.name, b.way, b.role.value, seen.version), 1) for b, seen in known]
    )
    yield metric(families.NODE_SLOTS, [((b.node,), b.slots) for b, _ in known])
    yield metric(families.NODE_IN_FLIGHT, [((b.node,), ledger.in_flight.get(b.id, 0)) for b, _ in known])
    yield metric(families.NODE_DRAINED, [((b.node,), b.node in roster.drained) for b, _ in known])
    yield metric(families.NODE_MODELS, [((b.node,), len(seen.keys)) for b, seen in known])


def _models(observer: Observer, roster: Roster, ledger: Ledger) -> Iterator[Metric]:
    nodes: dict[str, int] = {}
    slots: dict[str, int] = {}
    running: dict[str, int] = {}
    loaded: dict[tuple[str, str], tuple[int, int]] = {}
    keys = {key for seen in roster.seen.values() for key in seen.keys}
    for key in keys:
        label = observer.model_label(key)
        live = [number for number in roster.holders_in_play(key) if roster.seen[number].state is not State.DOWN]
        nodes[label] = nodes.get(label, 0) + len(live)
        slots[label] = slots.get(label, 0) + sum(roster.backends[number].slots for number in live)
        running[label] = running.get(label, 0) + sum(ledger.in_flight_model(key).values())
    for number, seen in roster.seen.items():
        if seen.state is State.DOWN:
            continue
        for row in seen.loaded:
            place = observer.model_label(row.key), roster.backends[number].node
            total, gpu = loaded.get(place, (0, 0))
            loaded[place] = total + row.fields.get("size", 0), gpu + row.fields.get("size_vram", 0)
    yield metric(families.MODEL_NODES, [((model,), count) for model, count in nodes.items()])
    yield metric(families.MODEL_SLOTS, [((model,), count) for model, count in slots.items()])
    yield metric(families.MODEL_IN_FLIGHT, [((model,), count) for model, count in running.items()])
    yield metric(families.MODEL_LOADED, [(place, total) for place, (total, _) in loaded.items()])
    yield metric(families.MODEL_VRAM, [(place, gpu) for place, (_, gpu) in loaded.items()])


def _learned(queue: Queue, roster: Roster, observer: Observer) -> Iterator[Metric]:
    """What the nodes have shown of themselves, beside what the inventory says of them."""
    names = {number: backend.node for number, backend in roster.nodes.items()}
    nodes = [((name,), queue.learned.nodes[number]) for number, name in names.items() if number in queue.learned.nodes]
    counted = [((name,), queue.slots(number)) for number, name in names.items()]
    fewer = [((observer.model_label(key), names[n]), slots) for n, key, slots in queue.fewer() if n in names]
    exceeded = [(name, node.memory.refuted) for name, node in nodes if node.memory.refuted < math.inf]
    yield metric(families.WAITS, [((reason,), count) for reason, count in queue.ends.items()])
    yield metric(families.PRELOADS, [((result,), count) for result, count in queue.preloads.items()])
    yield metric(families.NODE_EFFECTIVE_SLOTS, counted)
    yield metric(families.MODEL_EFFECTIVE_SLOTS, dict(fewer).items())
    yield metric(families.FOREIGN, [(name, node.trust.traces) for name, node in nodes])
    yield metric(families.UNBELIEVABLE, [(name, node.lies) for name, node in nodes])
    yield metric(families.NODE_FITTED, [(name, node.memory.proven) for name, node in nodes])
    yield metric(families.NODE_EXCEEDED, exceeded)
