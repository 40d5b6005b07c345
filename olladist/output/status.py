"""The fleet's state as a table: a line for each host, what is wrong with it at the end of the line."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from olladist.errors import HostError
from olladist.fleet.status import FleetStatus, HostStatus
from olladist.output.table import NONE, plain_table
from olladist.units import size


def status_block(status: FleetStatus) -> RenderableType:
    table = plain_table("HOST", "STATE", "SERVICE", "OLLAMA", "GPU", "VRAM", "LOADED", "DISK FREE", "TO DO")
    for name, host in status.hosts.items():
        table.add_row(name, *(_lost(host) if isinstance(host, HostError) else _row(host, status.drift(name))))
    return Group(table, *(Text(line) for line in status.missing))


def _lost(error: HostError) -> Iterator[Text | str]:
    yield Text("unreachable" if error.exit_code == 3 else "failed", "red")
    yield from [NONE] * 6
    yield error.cause.splitlines()[0] if error.cause else error.during


def _row(host: HostStatus, drift: tuple[str, ...]) -> Iterator[Text | str]:
    yield state_text(host)
    yield host.service or NONE
    yield ", ".join(host.versions) or NONE
    yield gpu_text(host)
    yield vram_text(host)
    yield ", ".join(dict.fromkeys(model.name for server in host.servers for model in server.loaded)) or NONE
    yield size(host.vitals.disk_free) if host.vitals.disk_free is not None else NONE
    yield "\n".join([*_problems(host), *drift]) or NONE


def state_text(host: HostStatus) -> Text:
    """Whether it is up, how many of its servers are, or what its service says."""
    working = sum(1 for server in host.servers if server.version)
    if working == len(host.servers):
        return Text("up", "green")
    if working:
        return Text(f"{working} of {len(host.servers)} up", "yellow")
    return Text(", ".join(dict.fromkeys(server.state for server in host.servers)), "red")


def _problems(host: HostStatus) -> Iterator[str]:
    """Why a server that should answer does not; one that is stopped or was never set up needs no more words."""
    for server in host.servers:
        sign = host.vitals.servers.get(server.port)
        if server.problem and sign is not None and sign.active:
            yield f"port {server.port}: {server.problem}"
        elif server.problem and len(host.servers) > 1:
            yield f"port {server.port}: {server.state}"
        if sign is not None and sign.restarts:
            yield f"port {server.port}: restarted {sign.restarts} times"
    if host.vitals.gpu_problem:
        yield host.vitals.gpu_problem


def gpu_text(host: HostStatus) -> str:
    """As "2x NVIDIA L4"; cards whose name is not known are counted."""
    names: dict[str, int] = {}
    for gpu in host.vitals.gpus:
        names[gpu.name or "GPU"] = names.get(gpu.name or "GPU", 0) + 1
    return ", ".join(f"{count}x {name}" if count > 1 else name for name, count in names.items()) or NONE


def vram_text(host: HostStatus) -> str:
    """In binary units, as cards are sold: 24 GiB are "24 GB" on the box."""
    total = sum(gpu.total for gpu in host.vitals.gpus)
    used = sum(gpu.used for gpu in host.vitals.gpus)
    return f"{used / 2**30:.1f} of {total / 2**30:.0f} GiB" if total else NONE
