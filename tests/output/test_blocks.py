"""Plans, states, models and findings as a person reads them: whole outputs, word for word."""

from pathlib import Path

from olladist.errors import HostError, StoreError, Unreachable
from olladist.fleet.change import Planned
from olladist.fleet.findings import Area, Finding, Verdict
from olladist.fleet.status import FleetStatus, HostStatus, ServerStatus, judge
from olladist.fleet.survey import Survey
from olladist.fleet.vitals import GpuSign, ServerSign, Vitals
from olladist.host.api import Loaded
from olladist.host.desired import Problem
from olladist.host.plan import Plan, plan_up
from olladist.host.steps import Run
from olladist.inventory.model import Host, Instance, Inventory, Service
from olladist.modelstore.list import Drift, ModelRow
from olladist.modelstore.plan import SyncPlan
from olladist.modelstore.steps import Pull
from olladist.ollama.names import parse_name
from olladist.output.findings import findings_block, summary_lines
from olladist.output.models import models_block
from olladist.output.plans import model_plan_block, plans_block, summary
from olladist.output.status import status_block
from tests.host.declaring import declare
from tests.host.recorded import recorded
from tests.output.golden import assert_golden, drawn

EXPECTED = Path(__file__).parent / "expected"


def planned(name: str, *, problems: tuple[Problem, ...] = (), steps: int = 2, notes: tuple[str, ...] = ()) -> Planned:
    run = [
        Run("write /etc/systemd/system/ollama.service", "cat >…\nmv …", root=True),
        Run("start ollama.service", "systemctl restart ollama.service", root=True),
    ]
    facts = recorded("debian13-system-service")
    survey = Survey(Host(name, f"{name}.example"), facts, declare(facts))
    return Planned(survey, Plan(name, tuple(run[:steps]), problems, notes))


PLANS: dict[str, Planned | HostError] = {
    "gpu1": planned("gpu1"),
    "gpu2": planned("gpu2"),
    "gpu3": planned("gpu3", steps=0, notes=("the Ollama 0.17.4 at /usr/bin/ollama is adopted",)),
    "gpu4": planned("gpu4", problems=(Problem("port 11434 is taken by perl", "kill 4711"),)),
    "gpu5": Unreachable("gpu5", "connecting", "no answer"),
}


def test_a_plan_shows_hosts_with_the_same_steps_together() -> None:
    """Each step in its order, what stands against it, and that there is nothing to do."""
    assert_golden(EXPECTED / "plan.txt", drawn(plans_block(PLANS)))
    assert summary(PLANS) == "4 steps on 2 hosts"


def test_a_verbose_plan_shows_what_runs() -> None:
    """Every command below its step."""
    assert_golden(EXPECTED / "plan-commands.txt", drawn(plans_block({"gpu1": PLANS["gpu1"]}, commands=True)))


def test_a_real_plan_can_be_read() -> None:
    """The plan of a fresh Debian, as it comes from the facts of one."""
    facts = recorded("debian13-root")
    wanted = declare(facts)
    survey = Survey(Host("gpu1", "gpu1.example"), facts, wanted)

    text = drawn(plans_block({"gpu1": Planned(survey, plan_up(facts, wanted))}))

    assert text.startswith("gpu1 (system service)\n  1. ")


def test_the_plan_of_models_counts_what_moves() -> None:
    """Steps in words; nothing to do where there are none."""
    plan = SyncPlan((Pull("gpu1", parse_name("llama3.2:3b")),))

    assert drawn(model_plan_block(plan)) == ("models (1 step)\n  1. pull llama3.2:3b on gpu1 from registry.ollama.ai\n")
    assert drawn(model_plan_block(SyncPlan())) == "models: nothing to do\n"


def fleet_status() -> FleetStatus:
    """Two hosts that work, one of whose servers failed, one that is not set up, and one that is gone."""
    two = Host("gpu1", "gpu1.example", instances=(Instance(11434), Instance(11435)))
    sign = ServerSign(Service.SYSTEM, "active", {"OLLAMA_NUM_PARALLEL": "1"})
    failed = ServerSign(Service.SYSTEM, "failed", {}, restarts=5)
    cards = (GpuSign("NVIDIA L4", 3 << 30, 24 << 30), GpuSign("NVIDIA L4", 0, 24 << 30))
    loaded = (Loaded("llama3.2:3b", size=4 * 10**9, size_vram=4 * 10**9),)
    hosts: dict[str, HostStatus | HostError] = {
        "gpu1": HostStatus(
            two,
            Vitals({11434: sign, 11435: failed}, cards, "", 860 * 10**9),
            (ServerStatus(11434, "active", "0.17.4", loaded=loaded), ServerStatus(11435, "failed", problem="refused")),
        ),
        "box2": HostStatus(
            Host("box2", "box2.example", service=Service.DETACHED, env={"OLLAMA_NUM_PARALLEL": "4"}),
            Vitals({11434: sign}, (), "nvidia-smi: no devices were found", None),
            (ServerStatus(11434, "active", "0.17.4"),),
        ),
        "box3": HostStatus(
            Host("box3", "box3.example"),
            Vitals({}, (), "", 10**9),
            (ServerStatus(11434, "not installed", problem="refused"),),
        ),
        "gone": Unreachable("gone", "connecting to root@gone", "no answer from 198.51.100.9 port 22 within 1.3 s"),
        "odd": StoreError("odd", "reading signs of life", "the host's answer is cut short or not ours"),
    }
    return judge(Inventory(Path("inventory.toml"), "lab", {}, {}), hosts)


def test_status_has_a_line_for_each_host() -> None:
    """What runs, what it holds, and at the end of the line what is wrong."""
    assert_golden(EXPECTED / "status.txt", drawn(status_block(fleet_status())))


def test_models_stand_in_one_line_for_the_hosts_that_hold_them() -> None:
    """Hosts folded, the digest as `ollama list` shows it, drift in words."""
    tiny, big = parse_name("acme/tiny:v1"), parse_name("llama3.2:3b")
    digest = "sha256:" + "0123456789abcdef" * 4
    rows = [
        ModelRow(tiny, "gpu1", digest, 5_043_147),
        ModelRow(tiny, "gpu2", digest, 5_043_147),
        ModelRow(tiny, "gpu3", drift=(Drift.MISSING,)),
        ModelRow(big, "gpu3", digest, 2_000_000_000, (Drift.UNDECLARED, Drift.INCOMPLETE)),
    ]

    assert_golden(EXPECTED / "models.txt", drawn(models_block(rows)))
    assert drawn(models_block([])) == "no models\n"


def test_findings_end_with_the_six_lines() -> None:
    """Host by host, the fix under each failure, then PASSED or FAILED for each area."""
    findings = [
        Finding(Area.INSTALLATION, "gpu1", "DNS", Verdict.OK, "gpu1 is 198.51.100.11"),
        Finding(Area.INSTALLATION, "gpu1", "TCP", Verdict.FAILED, "no answer within 5 s", "is the machine on?\nask"),
        Finding(Area.SERVER, "gpu1", "service", Verdict.NOT_CHECKED, "not checked: needs TCP"),
        Finding(Area.MODELS, "gpu2", "models", Verdict.OK, "as declared"),
        Finding(Area.API, "gateway", "APIs", Verdict.OK, "/api/version answers"),
    ]

    assert_golden(EXPECTED / "doctor.txt", drawn(findings_block(findings)))
    assert summary_lines([]) == [f"{area.value}: FAILED" for area in Area]
