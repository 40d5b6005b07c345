"""What a change to the fleet ends with."""

from dataclasses import replace

from olladist.errors import HostError, Unreachable, UsageError
from olladist.fleet.change import Blocked, Planned, Plans, blocked, steps_in
from olladist.fleet.models import ModelPlan
from olladist.fleet.outcome import Outcome, Synced
from olladist.fleet.survey import Survey
from olladist.host.desired import Problem
from olladist.host.plan import Plan
from olladist.host.steps import Run
from olladist.inventory.model import Host
from olladist.modelstore.plan import SyncPlan
from olladist.modelstore.source import Sources
from tests.host.declaring import declare
from tests.host.recorded import recorded

CASE = "debian13-system-service"
STEP = Run("start it", "true", root=False)
GONE = Unreachable("b", "connecting", "gone")


def planned(name: str, *steps: Run, problems: tuple[Problem, ...] = ()) -> Planned:
    return Planned(Survey(Host(name, name), recorded(CASE), declare(CASE)), Plan(name, steps, problems))


def models(*problems: UsageError, **stores: HostError) -> ModelPlan:
    return ModelPlan(stores, Sources(), SyncPlan(problems=problems))


def test_a_plan_with_problems_counts_as_failed_and_its_steps_do_not_count() -> None:
    """None of them will be run; problem and hint are in the error."""
    plans: Plans = {"a": planned("a", STEP), "b": planned("b", STEP, problems=(Problem("port taken", "stop it"),))}
    error = blocked(plans)["b"]

    assert steps_in(plans) == 1
    assert isinstance(error, Blocked)
    assert (error.cause, error.hint) == ("port taken", "stop it")
    assert Outcome(plans).exit_status == 1
    assert Outcome({"a": plans["a"]}).exit_status == 0


def test_what_was_carried_out_counts_and_not_what_was_planned() -> None:
    """A host that failed on the way; one that said no is 1 whatever else is well."""
    plans: Plans = {"a": planned("a", STEP)}

    assert Outcome(plans, {"a": HostError("a", "starting", "no")}).exit_status == 1
    assert Outcome(plans, plans).exit_status == 0
    assert Outcome(plans, declined=True).exit_status == 1
    assert Outcome({"b": GONE}).exit_status == 3


def test_models_that_failed_count_for_their_host() -> None:
    """The first error of a host stays; those of hosts that nobody chose are not theirs; a model's problem is one too."""
    plans: Plans = {"a": planned("a")}
    late = HostError("a", "copying", "no space")
    outcome = Outcome(plans, plans, models(b=GONE), {"a": late})

    assert outcome.results == {"a": late}
    assert outcome.exit_status == 1
    assert replace(outcome, synced={"a": None}).exit_status == 0
    assert replace(outcome, synced={"a": None}, models=models(UsageError("no such file"))).exit_status == 1
    assert Outcome({"b": GONE}, None, models(), {"b": HostError("b", "x", "y")}).results == {"b": GONE}


def test_a_sync_ends_as_its_worst_host() -> None:
    """Hosts that were not read, those that failed on the way, and 3 where none could be reached."""
    hosts = [Host("a", "a"), Host("b", "b")]

    assert Synced(hosts, models()).exit_status == 0
    assert Synced(hosts, models(b=GONE)).exit_status == 1
    assert Synced(hosts, models(), {"a": HostError("a", "copying", "no")}).exit_status == 1
    assert Synced(hosts[1:], models(b=GONE)).exit_status == 3
    assert Synced(hosts, models(), declined=True).exit_status == 1
