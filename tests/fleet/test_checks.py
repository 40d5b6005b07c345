"""What the doctor concludes of a host: every failure with its fix, and nothing beyond the first that all else stands on."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.errors import AuthRefused, ConnectionLost, HostError, HostKeyRefused, SudoRefused, Unreachable
from olladist.fleet.checks import CHECKS, HostEvidence, judge_host, judge_replicas
from olladist.fleet.findings import Area, Finding, Verdict, summary
from olladist.fleet.survey import UNKNOWN, Survey
from olladist.fleet.way import Way
from olladist.host.desired import Problem
from olladist.host.found import Facts, Gpu
from olladist.host.plan import Plan
from olladist.host.service.state import State
from olladist.host.steps import Run
from olladist.host.tarball import Release
from olladist.inventory.model import Connection, Host
from tests.fleet.fleets import inventory
from tests.host.declaring import declare
from tests.host.recorded import recorded

HOST = Host("gpu1", "gpu1.example")
CASE = "debian13-system-service"


def survey(facts: Facts | None = None, release: Release | None = None) -> Survey:
    facts = facts or recorded(CASE)
    wanted = declare(facts)
    return Survey(HOST, facts, replace(wanted, release=release) if release else wanted)


WELL = HostEvidence(
    HOST,
    way=Way("gpu1.example", 22, ("198.51.100.11",)),
    looked=survey(),
    plan=Plan("gpu1"),
    states={11434: State(active=True, says="active")},
    versions={11434: "0.17.4"},
    lacks=(),
)


def by_check(evidence: HostEvidence) -> dict[str, Finding]:
    return {finding.check: finding for finding in judge_host(evidence)}


def test_a_host_that_is_well() -> None:
    """Everything is ok, and each line says what was seen."""
    findings = judge_host(WELL)

    assert [finding.verdict for finding in findings] == [Verdict.OK] * len(CHECKS)
    assert [f"{finding.check}: {finding.text}" for finding in findings] == [
        "DNS: gpu1.example is 198.51.100.11",
        "TCP: gpu1.example port 22 answers",
        "host key: known",
        "login: as ops",
        "sudo: ops may use it without a password",
        f"disk: {findings[5].text}",
        "GPU driver: no GPU: models run on the CPU",
        "installation: /opt/olladist/current/bin/ollama, installed by olladist",
        "settings: nothing to do",
        "service: system service on port 11434",
        "API: Ollama 0.17.4 on port 11434",
        "models: as declared",
    ]


FAILURES = [
    ("DNS", replace(WELL, way=Way("gpu1.example", 22, dns_problem="Name or service not known"))),
    ("TCP", replace(WELL, way=Way("gpu1.example", 22, ("198.51.100.11",), tcp_problem="no answer within 5 s"))),
    ("TCP", replace(WELL, login=Unreachable("gpu1", "connecting", "the bastion cannot reach it"))),
    ("host key", replace(WELL, login=HostKeyRefused("gpu1", "checking", "the key has changed", hint="look at line 3"))),
    ("login", replace(WELL, login=AuthRefused("gpu1", "logging in", "no key was taken", hint="ssh-copy-id"))),
    ("login", replace(WELL, looked=ConnectionLost("gpu1", "reading facts", "it was closed"))),
    ("sudo", replace(WELL, looked=SudoRefused("gpu1", "reading facts", "wrong password"))),
    ("installation", replace(WELL, plan=Plan("gpu1", problems=(Problem("port 11434 is taken", "stop that"),)))),
    ("installation", replace(WELL, looked=survey(release=Release(UNKNOWN, "")))),
    ("service", replace(WELL, states={11434: State(says="failed")})),
    ("API", replace(WELL, versions={11434: HostError("gpu1", "asking", "no answer in time")})),
]


@pytest.mark.parametrize(("check", "evidence"), FAILURES)
def test_nothing_is_concluded_beyond_what_has_failed(check: str, evidence: HostEvidence) -> None:
    """What comes before it is ok, it has a fix, and what needs it is not checked, which counts as failed."""
    findings = judge_host(evidence)
    at = [finding.check for finding in findings].index(check)

    assert {finding.verdict for finding in findings[:at]} <= {Verdict.OK}
    assert findings[at].verdict is Verdict.FAILED
    assert findings[at].fix
    assert [finding.verdict for finding in findings[at + 1 :]] == [Verdict.NOT_CHECKED] * (len(findings) - at - 1)
    assert all(finding.text == f"not checked: needs {check}" for finding in findings[at + 1 :])
    assert not summary(findings)[findings[-1].area]


@pytest.mark.parametrize(
    ("check", "evidence", "fix"),
    [
        ("settings", replace(WELL, plan=Plan("gpu1", (Run("write it", "true", root=False),))), "olladist --limit gpu1 up"),
        ("models", replace(WELL, lacks=("tiny:latest is missing",)), "olladist models sync"),
        ("models", replace(WELL, lacks=None), "olladist --limit gpu1 logs"),
        (
            "GPU driver",
            replace(WELL, looked=survey(recorded("debian12-no-driver"))),
            "install or repair the GPU driver",
        ),
    ],
)  # fmt: skip
def test_a_failure_that_nothing_stands_on_stops_nothing(check: str, evidence: HostEvidence, fix: str) -> None:
    """The other checks are made all the same."""
    found = by_check(evidence)

    assert found[check].verdict is Verdict.FAILED
    assert found[check].fix.startswith(fix)
    assert [f.check for f in found.values() if f.verdict is not Verdict.OK] == [check]


def test_a_disk_that_is_nearly_full() -> None:
    """Below two gigabytes the smallest models find no room."""
    facts = recorded(CASE)
    full = survey(facts)
    path = full.desired.store.path
    paths = {**facts.paths, path: replace(facts.paths[path], free_bytes=10**9)}
    found = by_check(replace(WELL, looked=replace(full, facts=replace(facts, paths=paths))))

    assert found["disk"].text == f"1.0 GB free for models in {path}"
    assert "models_dir" in found["disk"].fix


def test_cards_are_counted_with_their_driver() -> None:
    """As far as they are known."""
    facts = replace(
        recorded(CASE), gpus=tuple(Gpu(n, "nvidia", "NVIDIA L4", f"GPU-{n}", 24 << 30, None, "550.1") for n in (0, 1))
    )

    assert by_check(replace(WELL, looked=survey(facts)))["GPU driver"].text == "2x NVIDIA L4, driver 550.1"


def test_this_machine_needs_no_way() -> None:
    """Without SSH there is no name, no port and no key to check."""
    found = by_check(replace(WELL, host=Host("gpu1", "localhost", Connection.LOCAL), way=None))

    assert [found[check].text for check in ("DNS", "TCP", "host key")] == ["this machine", "not needed", "not needed"]


def test_replicas_concern_the_fleet() -> None:
    """Nothing is said where none are declared; too few are a failure of the models."""
    none = inventory('[hosts.a]\naddress = "a.example"\n')
    some = inventory('[hosts.a]\naddress = "a.example"\n[models.tiny]\nreplicas = 1\n')

    assert judge_replicas(none, ()) == ()
    assert [found.verdict for found in judge_replicas(some, ())] == [Verdict.OK]
    assert not summary(judge_replicas(some, ("tiny:latest: 1 replicas are declared, 0 are there",)))[Area.MODELS]


finding = st.builds(Finding, st.sampled_from(Area), st.just("h"), st.just("c"), st.sampled_from(Verdict), st.just(""))


@given(st.lists(finding))
def test_an_area_passes_if_everything_in_it_was_seen_to_be_well(findings: list[Finding]) -> None:
    """Six lines in their order, always; nothing passes unseen."""
    passed = summary(findings)

    assert list(passed) == list(Area)
    for area, well in passed.items():
        verdicts = [found.verdict for found in findings if found.area is area]
        assert well == (bool(verdicts) and set(verdicts) == {Verdict.OK})
