"""`status`: how every host does, in about the time that the slowest answer takes."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from olladist.errors import HostError
from olladist.fleet.events import Doing, Finished
from olladist.fleet.open import Fleet
from olladist.fleet.results import values
from olladist.fleet.vitals import Vitals, read_vitals
from olladist.host.api import Loaded, OllamaAPI, Tag
from olladist.inventory.model import DeclaredModel, Host, Instance, Inventory, Service
from olladist.inventory.select import hosts_for
from olladist.ollama.names import InvalidName, parse_name
from olladist.ollama.release import is_version, normalise
from olladist.ssh.runner import Runner

# An Ollama answers these in milliseconds; while it closes a runner it may take seconds (server/sched.go).
ANSWER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One Ollama of a host; `problem` says why it gives no answer, and then the rest is empty."""

    port: int
    state: str  # of its service: "active", "stopped", "failed", "not installed"
    version: str = ""
    models: tuple[Tag, ...] = ()
    loaded: tuple[Loaded, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class HostStatus:
    """A host that was reached."""

    host: Host
    vitals: Vitals
    servers: tuple[ServerStatus, ...]

    @property
    def service(self) -> str:
        """The mode of its first server that is set up, "" where none is."""
        modes = [sign.mode.value for _, sign in sorted(self.vitals.servers.items())]
        return modes[0] if modes else ""

    @property
    def versions(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(server.version for server in self.servers if server.version))

    @property
    def working(self) -> bool:
        return all(server.version for server in self.servers)


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """What differs from the inventory, in words.

    `settings` and `models` are by host; `missing` is what no single host lacks.
    """

    hosts: Mapping[str, HostStatus | HostError]
    settings: Mapping[str, tuple[str, ...]]
    models: Mapping[str, tuple[str, ...]]
    missing: tuple[str, ...] = ()

    def drift(self, host: str) -> tuple[str, ...]:
        return (*self.settings[host], *self.models[host])


async def read_status(fleet: Fleet) -> FleetStatus:
    """Signs of life and the API of every host, all at the same time."""

    async def one(runner: Runner, host: Host) -> HostStatus:
        fleet.tell(Doing(host.name, "asking"))
        vitals = await read_vitals(runner, host)
        servers = [await ask(runner, instance.port, vitals) for instance in host.instances]
        fleet.tell(Finished(host.name, ""))
        return HostStatus(host, vitals, tuple(servers))

    hosts = await fleet.each(one, limit=max(len(fleet.hosts), 1))
    return judge(fleet.inventory, hosts)


async def ask(runner: Runner, port: int, vitals: Vitals) -> ServerStatus:
    """What the API says, whatever the service manager thinks: somebody may have started it by hand."""
    sign = vitals.servers.get(port)
    state = sign.state if sign else "not installed"
    try:
        async with (
            asyncio.timeout(ANSWER_SECONDS),
            runner.reach(port) as endpoint,
            OllamaAPI(endpoint, runner.host) as api,
        ):
            return ServerStatus(port, state, await api.version(), await api.tags(), await api.ps())
    except HostError as error:
        return ServerStatus(port, state, problem=error.cause)
    except TimeoutError:
        return ServerStatus(port, state, problem=f"no answer within {ANSWER_SECONDS:g} s")


# ---- what differs from the inventory: pure ----


def judge(inventory: Inventory, hosts: Mapping[str, HostStatus | HostError]) -> FleetStatus:
    """What `up` and `models sync` would have to do, as far as status can see it."""
    reached = values(hosts)
    settings = {name: tuple(_host_drift(status)) for name, status in reached.items()}
    lacks: dict[str, list[str]] = {name: [] for name in reached}
    missing: list[str] = []
    held = {name: _held(status) for name, status in reached.items()}
    for model in inventory.models:
        # Of replicas nothing can be said before all hosts that may hold one were asked.
        whole = all(host.name in hosts for host in hosts_for(inventory, model))
        missing += _model_drift(inventory, model, held, lacks, whole=whole)
    return FleetStatus(hosts, settings, {name: tuple(found) for name, found in lacks.items()}, tuple(missing))


def _host_drift(status: HostStatus) -> Iterator[str]:
    host = status.host
    wanted = normalise(host.ollama) if is_version(host.ollama) else ""
    for instance, server in zip(host.instances, status.servers, strict=True):
        where = f" on port {server.port}" if len(status.servers) > 1 else ""
        sign = status.vitals.servers.get(server.port)
        if sign is None:
            yield f"not set up by olladist{where}" if server.version else f"not installed{where}"
            continue
        if host.service is not Service.AUTO and sign.mode is not host.service:
            yield f"runs as a {sign.mode} service{where}, declared {host.service}"
        if wanted and server.version and server.version != wanted:
            yield f"runs Ollama {server.version}{where}, declared {wanted}"
        for name, value in _declared(host, instance).items():
            is_set = sign.environment.get(name)
            if is_set != value:
                yield f"{name} is {is_set if is_set is not None else 'not set'}{where}, declared {value}"


def _declared(host: Host, instance: Instance) -> dict[str, str]:
    return {**host.env, **instance.env}


def _held(status: HostStatus) -> dict[str, str]:
    """The models that a host lists: ModelName.key to digest."""
    held = {}
    for server in status.servers:
        for tag in server.models:
            try:
                held[parse_name(tag.name).key] = tag.digest
            except InvalidName:
                continue
    return held


def _model_drift(
    inventory: Inventory,
    model: DeclaredModel,
    held: Mapping[str, Mapping[str, str]],
    lacks: Mapping[str, list[str]],
    *,
    whole: bool,
) -> Iterator[str]:
    """Adds to `lacks` what single hosts lack; yields what the fleet lacks."""
    key = model.name.key
    candidates = [host.name for host in hosts_for(inventory, model) if host.name in held]
    having = [host for host in candidates if key in held[host]]
    if model.replicas is None:
        for host in candidates:
            if key not in held[host]:
                lacks[host].append(f"{model.name} is missing")
    elif whole and len(having) < model.replicas:
        yield f"{model.name}: {model.replicas} replicas are declared, {len(having)} {'is' if len(having) == 1 else 'are'} there"
    digests = Counter(held[host][key] for host in having)
    if len(digests) > 1:
        common = digests.most_common(1)[0][0]
        for host in having:
            if held[host][key] != common:
                lacks[host].append(f"{model.name} differs from that of the other hosts")
