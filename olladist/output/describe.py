"""Reports as the documents of `--json`."""

from collections.abc import Mapping
from typing import Any

from olladist.errors import CommandFailed, HostError, OlladistError
from olladist.fleet.change import Planned
from olladist.fleet.outcome import Outcome, Synced
from olladist.fleet.results import values
from olladist.modelstore.plan import SyncPlan
from olladist.modelstore.steps import Step, bytes_to_move
from olladist.output.documents import (
    ChangeDocument,
    ExecDocument,
    ExecHost,
    Failure,
    ModelStep,
    PlannedHost,
    PlannedStep,
    PlanProblem,
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
