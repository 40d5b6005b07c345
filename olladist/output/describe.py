"""Reports as the documents of `--json`."""

from collections.abc import Mapping, Sequence
from typing import Any

from olladist.errors import CommandFailed, HostError, OlladistError
from olladist.fleet.change import Planned
from olladist.fleet.findings import Finding, summary
from olladist.fleet.models import Listing
from olladist.fleet.outcome import Outcome, Synced
from olladist.fleet.results import values
from olladist.fleet.status import FleetStatus, HostStatus, ServerStatus
from olladist.modelstore.plan import SyncPlan
from olladist.modelstore.steps import Step, bytes_to_move
from olladist.output.documents import (
    ChangeDocument,
    DoctorDocument,
    DoctorFinding,
    ExecDocument,
    ExecHost,
    Failure,
    HeldModel,
    ListedModel,
    LoadedModel,
    ModelsDocument,
    ModelStep,
    PlannedHost,
    PlannedStep,
    PlanProblem,
    StatusDocument,
    StatusGpu,
    StatusHost,
    StatusServer,
    SyncDocument,
)
from olladist.ssh.runner import Completed


def failed_hosts(results: Mapping[str, object]) -> tuple[Failure, ...]:
    return tuple(_failure(result) for result in results.values() if isinstance(result, HostError))


def _failure(error: HostError) -> Failure:
    more: dict[str, Any] = {}
    if isinstance(error, CommandFailed):
        more = {"command": error.command, "status": error.status, "stderr": error.stderr}
    return Failure(
        host=error.host, kind=type(error).__name__, cause=error.cause, during=error.during, hint=error.hint, **more
    )


def describe_exec(results: Mapping[str, Completed | HostError]) -> ExecDocument:
    return ExecDocument(
        hosts=tuple(
            ExecHost(name=host, status=done.status, stdout=done.stdout, stderr=done.stderr)
            for host, done in values(results).items()
        ),
        failed=failed_hosts(results),
    )


def describe_change(command: str, outcome: Outcome, *, dry_run: bool) -> ChangeDocument:
    schema: Any = f"olladist.{command}"
    plan = outcome.models.plan if outcome.models else SyncPlan()
    return ChangeDocument(
        schema=schema,
        done=not (dry_run or outcome.declined),
        hosts=tuple(_planned_host(host, planned) for host, planned in values(outcome.planned).items()),
        models=tuple(map(_model_step, plan.steps)),
        model_problems=tuple(map(_problem, plan.problems)),
        failed=failed_hosts(outcome.results),
    )


def _planned_host(host: str, planned: Planned) -> PlannedHost:
    plan = planned.plan
    return PlannedHost(
        name=host,
        service=planned.survey.desired.mode.value,
        steps=tuple(PlannedStep(text=step.describe(), commands=step.commands()) for step in plan.steps),
        problems=tuple(PlanProblem(text=problem.text, hint=problem.hint) for problem in plan.problems),
        notes=plan.notes,
    )


def _model_step(step: Step) -> ModelStep:
    return ModelStep(
        action=type(step).__name__.lower(),
        host=step.host,
        model=str(step.model),
        bytes=bytes_to_move(step),
        text=step.describe(),
    )


def _problem(problem: OlladistError) -> PlanProblem:
    return PlanProblem(text=problem.message, hint=problem.hint)


def describe_sync(command: str, synced: Synced) -> SyncDocument:
    schema: Any = f"olladist.models.{command}"
    plan = synced.plan.plan
    return SyncDocument(
        schema=schema,
        done=synced.outcomes is not None,
        steps=tuple(map(_model_step, plan.steps)),
        problems=tuple(map(_problem, plan.problems)),
        failed=failed_hosts(synced.results),
    )


def describe_status(status: FleetStatus) -> StatusDocument:
    return StatusDocument(
        hosts=tuple(_status_host(host, status.drift(name)) for name, host in values(status.hosts).items()),
        missing=status.missing,
        failed=failed_hosts(status.hosts),
    )


def _status_host(status: HostStatus, drift: tuple[str, ...]) -> StatusHost:
    working = sum(1 for server in status.servers if server.version)
    return StatusHost(
        name=status.host.name,
        address=status.host.address,
        state="up" if status.working else "partly" if working else "down",
        service=status.service,
        version=", ".join(status.versions),
        gpus=tuple(StatusGpu(name=gpu.name, vram_used=gpu.used, vram_total=gpu.total) for gpu in status.vitals.gpus),
        gpu_problem=status.vitals.gpu_problem,
        disk_free=status.vitals.disk_free,
        servers=tuple(map(_status_server, status.servers)),
        drift=drift,
    )


def _status_server(server: ServerStatus) -> StatusServer:
    return StatusServer(
        port=server.port,
        state=server.state,
        version=server.version,
        models=tuple(HeldModel(name=m.name, digest=m.digest, size=m.size) for m in server.models),
        loaded=tuple(
            LoadedModel(name=m.name, size=m.size, size_vram=m.size_vram, expires_at=m.expires_at) for m in server.loaded
        ),
        problem=server.problem,
    )


def describe_findings(findings: Sequence[Finding]) -> DoctorDocument:
    return DoctorDocument(
        findings=tuple(
            DoctorFinding(
                area=finding.area.value,
                subject=finding.subject,
                check=finding.check,
                verdict=finding.verdict.value,
                text=finding.text,
                fix=finding.fix,
            )
            for finding in findings
        ),
        summary={area.value: passed for area, passed in summary(findings).items()},
    )


def describe_listing(listing: Listing) -> ModelsDocument:
    return ModelsDocument(
        models=tuple(
            ListedModel(
                model=str(row.model),
                host=row.host,
                digest=row.digest,
                size=row.size,
                drift=tuple(kind.value for kind in row.drift),
            )
            for row in listing.rows
        ),
        problems={
            host: seen.contents.problems for host, seen in values(listing.stores).items() if seen.contents.problems
        },
        failed=failed_hosts(listing.stores),
    )
