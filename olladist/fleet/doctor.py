"""`doctor`: looks at everything from DNS to a real generation, and concludes what is wrong and what mends it."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from olladist.errors import HostError, OlladistError
from olladist.fleet.checks import HostEvidence, judge_host, judge_replicas
from olladist.fleet.events import Doing, Finished
from olladist.fleet.findings import Finding
from olladist.fleet.gateway_checks import GatewayEvidence, ask_gateway, is_gateway, judge_gateway
from olladist.fleet.open import Fleet
from olladist.fleet.status import HostStatus, judge
from olladist.fleet.status import ask as ask_server
from olladist.fleet.survey import glance
from olladist.fleet.vitals import read_vitals
from olladist.fleet.way import Way, look
from olladist.host.artifacts import Artifacts
from olladist.host.plan import plan_up
from olladist.host.service.choose import states
from olladist.inventory.model import Connection, Host
from olladist.ssh.config import SshConfig
from olladist.ssh.runner import Runner

WAY_SECONDS = 5.0

# Starts a gateway of this inventory on a free port, for as long as the context lasts, and yields its URL.
OpenGateway = Callable[[], AbstractAsyncContextManager[str]]


async def examine(fleet: Fleet, open_gateway: OpenGateway) -> tuple[Finding, ...]:
    """All findings: those of each host in the order of the inventory, then those of the gateway."""
    config = SshConfig()
    artifacts = Artifacts(fleet.inventory)
    seen = await asyncio.gather(*(_look_at(fleet, host, config, artifacts) for host in fleet.hosts))
    drift = judge(fleet.inventory, {evidence.host.name: status for evidence, status in seen})
    working = any(isinstance(status, HostStatus) and status.working for _, status in seen)
    gateway = await _gateway(fleet, open_gateway) if working else None
    findings: list[Finding] = []
    for evidence, _ in seen:
        findings += judge_host(replace(evidence, lacks=drift.models.get(evidence.host.name)))
    return (*findings, *judge_replicas(fleet.inventory, drift.missing), *judge_gateway(gateway))


async def _look_at(
    fleet: Fleet, host: Host, config: SshConfig, artifacts: Artifacts
) -> tuple[HostEvidence, HostStatus | HostError]:
    """Goes as far as it can; what stopped it is in the evidence."""
    fleet.tell(Doing(host.name, "looking"))
    evidence = HostEvidence(host, way=await _way(host, config))
    try:
        runner = await fleet.runner(host)
    except HostError as error:
        return replace(evidence, login=error), error
    try:
        return await _inside(fleet, runner, evidence, artifacts)
    except HostError as error:
        return replace(evidence, looked=error), error
    finally:
        fleet.tell(Finished(host.name, ""))


async def _way(host: Host, config: SshConfig) -> Way | None:
    if host.connection is Connection.LOCAL:
        return None
    try:
        first = config.route(host)[0]
    except HostError:
        return None  # logging in fails for the same reason, and says it
    if first.proxy_command:
        return None
    return await look(first.address, first.port, timeout=WAY_SECONDS)


async def _inside(
    fleet: Fleet, runner: Runner, evidence: HostEvidence, artifacts: Artifacts
) -> tuple[HostEvidence, HostStatus]:
    host = evidence.host
    survey = await glance(runner, host, fleet.inventory, artifacts)
    vitals = await read_vitals(runner, host)
    servers = [await ask_server(runner, instance.port, vitals) for instance in host.instances]
    evidence = replace(
        evidence,
        looked=survey,
        plan=plan_up(survey.facts, survey.desired),
        states=states(survey.facts, survey.desired),
        versions={
            server.port: server.version or HostError(host.name, "asking Ollama", server.problem) for server in servers
        },
    )
    return evidence, HostStatus(host, vitals, tuple(servers))


async def _gateway(fleet: Fleet, open_gateway: OpenGateway) -> GatewayEvidence:
    """The one that is running where the inventory says, else one started for this."""
    running = f"http://{fleet.inventory.gateway.listen}"
    hosts = {host.name for host in fleet.hosts}
    wanted = [str(model.name) for model in fleet.inventory.models]
    if await is_gateway(running):
        return await ask_gateway(running, hosts, wanted, started=False)
    try:
        async with open_gateway() as url:
            return await ask_gateway(url, hosts, wanted, started=True)
    except OlladistError as error:
        return GatewayEvidence(problem=error.message)
