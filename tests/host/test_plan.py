"""Plans: whole ones against golden texts, and what makes a plan empty, shorter or impossible."""

import dataclasses
import hashlib
import sys
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from olladist.host.desired import Desired
from olladist.host.found import Facts, Prefix
from olladist.host.plan import Plan, plan_down, plan_restart, plan_uninstall, plan_up
from olladist.host.tarball import Form, Release
from olladist.inventory.model import Instance, Service
from tests.host.declaring import ADDITION, RELEASE, TARBALL, declare
from tests.host.recorded import recorded

GOLDEN = Path(__file__).parent / "plans"

# What `up` left on the lab's hosts when their facts were recorded.
LAB = Release("tarball-de317275", "")
TWO = (Instance(11434), Instance(11435))


SUPERVISOR = resources.files("olladist.host.service").joinpath("supervise.sh").read_text()


def text(plan: Plan) -> str:
    lines = [f"problem: {problem.text} [{problem.hint}]" for problem in plan.problems]
    lines += [f"note: {note}" for note in plan.notes]
    for step in plan.steps:
        lines.append(f"* {step.describe()}")
        commands = [command.replace(SUPERVISOR, "(supervise.sh)\n") for command in step.commands()]
        lines += [f"    {line}" for command in commands for line in command.splitlines()]
    return "\n".join(lines) + "\n"


def up(case: str | Facts, **settings: Any) -> Plan:
    facts = recorded(case) if isinstance(case, str) else case
    return plan_up(facts, declare(facts, **settings))


def titles(plan: Plan) -> list[str]:
    return [step.describe() for step in plan.steps]


GOLDENS: Mapping[str, Callable[[], Plan]] = {
    "system-fresh": lambda: up("debian13-root", release=RELEASE, env={"OLLAMA_KEEP_ALIVE": '5"%\\'}),
    "system-two-instances": lambda: up(
        "ubuntu24-mi300x-rocm7",
        release=Release("0.17.4-rocm", "0.17.4", (TARBALL, ADDITION)),
        instances=(Instance(11434, (0,)), Instance(11435, (1,))),
    ),
    "adopted-same-version": lambda: up("ubuntu22-a100-official", ollama="0.6.2"),
    "adopted-other-version": lambda: up("ubuntu22-a100-official", release=RELEASE),
    "package-not-running-no-zstd": lambda: up("rocky9-rtx4090-rpm", release=RELEASE, direct=True),
    "user-fresh": lambda: up(_blank("debian13-user-service"), release=RELEASE),
    "user-asked-for-by-name": lambda: up("debian13-root", release=RELEASE, service=Service.USER),
    "detached-container": lambda: up("container-h100", release=RELEASE, models_dir="/workspace/models"),
    "system-uninstall": lambda: _plan("debian13-system-service", plan_uninstall),
    "system-purge": lambda: plan_uninstall(recorded("debian13-system-service"), _lab(), purge_models=True),
    "user-uninstall": lambda: _plan("debian13-user-service", plan_uninstall),
    "detached-uninstall": lambda: _plan("debian13-detached", plan_uninstall),
    "system-restart": lambda: plan_restart(recorded("debian13-system-service"), _lab()),
    "system-down": lambda: plan_down(recorded("debian13-system-service"), _lab()),
    "detached-down": lambda: _plan("debian13-detached", plan_down),
    "blocked": lambda: up("debian12-noexec-home-by-hand", release=RELEASE),
}


def _plan(case: str, planned: Callable[[Facts, Desired], Plan]) -> Plan:
    return planned(recorded(case), declare(case, release=LAB))


def _lab(**settings: Any) -> Desired:
    return declare("debian13-system-service", **{"release": LAB, "instances": TWO, **settings})


def _today(case: str) -> Facts:
    """A recorded host with the supervisor's script as it is today: the recording keeps the digest of its own day."""
    facts = recorded(case)
    now = hashlib.sha256(SUPERVISOR.encode()).hexdigest()
    hashes = {path: now if path.endswith("/supervise.sh") else digest for path, digest in facts.hashes.items()}
    return dataclasses.replace(facts, hashes=hashes)


def _blank(case: str) -> Facts:
    """The host before olladist came to it."""
    facts = recorded(case)
    paths = {path: dataclasses.replace(found, exists=False, link="") for path, found in facts.paths.items()}
    return dataclasses.replace(
        facts, units=(), binaries=(), prefixes={}, detached=(), processes={}, hashes={}, listeners=(), paths=paths
    )


@pytest.mark.parametrize("name", GOLDENS)
def test_a_plan_is_the_one_we_have_looked_at(name: str) -> None:
    """Every command of the plans for typical hosts, word for word."""
    assert text(GOLDENS[name]()) == (GOLDEN / f"{name}.txt").read_text()


@pytest.mark.parametrize(
    ("case", "instances"),
    [
        ("debian13-system-service", TWO),
        ("debian13-user-service", (Instance(11434),)),
        ("debian13-detached", (Instance(11434),)),
    ],
)
def test_a_host_on_which_up_has_run_has_nothing_to_do(case: str, instances: tuple[Instance, ...]) -> None:
    """Facts recorded after a real `up`: the plan is empty, and says nothing either."""
    assert up(_today(case), release=LAB, instances=instances) == Plan("gpu1")


def test_what_is_down_already_is_not_stopped_again() -> None:
    """Neither on a host that never had anything, nor after `down`."""
    assert titles(plan_down(recorded("debian13-root"), declare("debian13-root"))) == []
    assert titles(plan_uninstall(recorded("debian13-root"), declare("debian13-root"))) == []


# ---- an `up` that was interrupted ----


def _system(**changes: Any) -> Plan:
    facts = dataclasses.replace(recorded("debian13-system-service"), **changes)
    return plan_up(facts, _lab())


def test_an_up_cut_off_while_copying_goes_on_copying() -> None:
    """The staged part is no release; Copy itself continues it."""
    prefix = Prefix("/opt/olladist", (), "", ("0.17.4-ollama-linux-amd64.tar.zst",), ())
    facts = dataclasses.replace(recorded("debian13-root"), prefixes={"/opt/olladist": prefix})

    assert titles(up(facts, release=RELEASE))[:3] == [
        "copy ollama-linux-amd64.tar.zst to /opt/olladist/stage/0.17.4-ollama-linux-amd64.tar.zst",
        "unpack Ollama into /opt/olladist/releases/0.17.4",
        "switch /opt/olladist/current to 0.17.4",
    ]


def test_an_up_cut_off_before_the_switch_only_switches() -> None:
    """What is unpacked is whole; leftovers of the stage are cleared."""
    prefix = Prefix("/opt/olladist", ("tarball-de317275",), "", ("x.tar.zst",), ())

    assert titles(_system(prefixes={"/opt/olladist": prefix})) == [
        "clear /opt/olladist/stage",
        "switch /opt/olladist/current to tarball-de317275",
    ]


def test_an_up_cut_off_before_the_reload_reloads_and_restarts() -> None:
    """systemd says itself that a file has changed; what runs still has the old revision."""
    facts = recorded("debian13-system-service")
    units = tuple(dataclasses.replace(unit, needs_reload=unit.name == "ollama.service") for unit in facts.units)
    old = {
        pid: dataclasses.replace(process, environ={**(process.environ or {}), "OLLADIST_REVISION": "old"})
        for pid, process in facts.processes.items()
        if process.unit == "ollama.service"
    }

    assert titles(_system(units=units, processes={**facts.processes, **old})) == [
        "tell systemd of the changed files",
        "restart ollama.service",
        "wait until ollama.service on port 11434 answers",
    ]


def test_a_server_that_died_is_started() -> None:
    """Whatever the files say."""
    facts = recorded("debian13-system-service")
    units = tuple(
        dataclasses.replace(unit, active="failed", pid=None) if unit.name == "ollama.service" else unit
        for unit in facts.units
    )

    assert titles(_system(units=units)) == ["start ollama.service", "wait until ollama.service on port 11434 answers"]


def test_after_a_reboot_a_detached_server_is_started_again() -> None:
    """Its pid file is there, and speaks of a process that is not."""
    facts = _today("debian13-detached")
    gone = tuple(dataclasses.replace(found, pid=None, server=None) for found in facts.detached)
    facts = dataclasses.replace(facts, detached=gone, processes={}, listeners=())

    assert titles(up(facts, release=LAB)) == [
        "start the Ollama on port 11434",
        "wait until the Ollama on port 11434 answers",
    ]


# ---- what is no longer declared ----


def test_an_instance_that_left_the_inventory_is_removed() -> None:
    """Its unit is ours, so it goes; the other one stays as it runs but for its own settings."""
    plan = plan_up(recorded("debian13-system-service"), _lab(instances=(Instance(11434),)))

    assert titles(plan)[:3] == [
        "stop ollama-11435.service",
        "remove ollama-11435.service",
        "tell systemd of the changed files",
    ]


def test_a_host_that_becomes_another_kind_is_moved_within_its_home() -> None:
    """From systemd --user to detached: the user's own unit goes, then the supervisor takes its port."""
    plan = up("debian13-user-service", release=LAB, service=Service.DETACHED)

    assert titles(plan)[:2] == ["stop ollama.service", "remove ollama.service"]
    assert titles(plan)[-2:] == ["start the Ollama on port 11434", "wait until the Ollama on port 11434 answers"]
    assert plan.problems == ()


def test_what_belongs_to_the_machine_is_left_alone_by_whoever_works_in_a_home() -> None:
    """A detached host may be the same machine as another host with the system service."""
    facts = recorded("debian13-system-service")
    detached = declare(facts, release=LAB, service=Service.DETACHED, instances=(Instance(11500),))

    for plan in (plan_up(facts, detached), plan_down(facts, detached), plan_uninstall(facts, detached)):
        assert not [title for title in titles(plan) if ".service" in title or "/opt/" in title]


def test_a_unit_file_of_somebody_else_is_never_written() -> None:
    """Neither the user's own one, nor one that has the name of a further instance."""
    facts = recorded("debian13-user-service")
    theirs = dataclasses.replace(facts.units[0], ours=False, binary="/home/plain/bin/ollama")
    facts = dataclasses.replace(facts, units=(theirs, dataclasses.replace(theirs, name="ollama-11435.service")))

    plan = up(facts, release=LAB, instances=TWO, env={"A": "b"})

    written = [title.removeprefix("write ") for title in titles(plan) if title.startswith("write ")]
    assert [path.rpartition("/")[2] for path in written] == ["50-olladist.conf", "50-olladist.conf"]


def test_a_unit_that_cannot_be_enabled_is_not_tried_for_ever() -> None:
    """One without [Install], say; and `down` stops only what runs."""
    facts = recorded("debian13-system-service")
    static = tuple(dataclasses.replace(unit, enabled=None) for unit in facts.units)
    stopped = tuple(dataclasses.replace(unit, enabled=None, active="inactive", pid=None) for unit in facts.units)

    assert _system(units=static).steps == ()
    assert titles(plan_down(dataclasses.replace(facts, units=stopped), _lab())) == []


# ---- problems ----


def test_a_port_that_somebody_else_holds_is_named_with_its_holder() -> None:
    """Pid, user and command, and how to be rid of it."""
    (problem,) = plan_up(recorded("ubuntu24-snap"), declare("ubuntu24-snap", release=RELEASE)).problems

    assert (
        problem.text
        == "port 11434 is taken by pid 990 of user root: /snap/ollama/44/bin/ollama serve (the snap ollama)"
    )
    assert problem.hint.startswith("sudo snap stop --disable ollama")


def test_without_root_the_holder_of_a_port_is_known_by_its_user() -> None:
    """The kernel says whose socket it is, if not which process."""
    (problem,) = up("debian13-port-of-another", release=RELEASE).problems

    assert problem.text == "port 11434 is taken by a process of user root"


def test_our_own_system_service_in_the_way_is_called_by_its_name() -> None:
    """Of a host that was "system" and is "detached" now."""
    (problem,) = up("debian13-system-service", release=LAB, service=Service.DETACHED).problems

    assert "which olladist has set up as a system service" in problem.text
    assert "uninstall" in problem.hint


def test_a_disk_too_small_for_the_release_is_a_problem_with_both_figures() -> None:
    """Before a single byte is copied."""
    facts = recorded("debian13-root")
    small = dataclasses.replace(facts.paths["/opt/olladist"], free_bytes=280_000_000)
    facts = dataclasses.replace(facts, paths={**facts.paths, "/opt/olladist": small})

    (problem,) = up(facts, release=RELEASE).problems

    assert problem.text == "/opt/olladist needs 5.1 GB, and only 280 MB are free there"


def test_a_release_for_another_processor_is_a_problem() -> None:
    """Found by the ELF header of its binary."""
    (problem,) = up("jetson-orin", release=RELEASE).problems

    assert problem.text == "ollama-linux-amd64.tar.zst is for amd64, and this host is arm64"


def test_facts_read_without_root_are_not_enough_for_the_system_service() -> None:
    """Nobody gave the sudo password: nothing is planned on half the facts."""
    (problem,) = up("debian13-sudo-password", release=RELEASE).problems

    assert problem.hint == "give the sudo password of pat"


def test_a_drop_in_that_would_overrule_our_command_is_a_problem() -> None:
    """systemd reads override.conf after 50-olladist.conf."""
    facts = recorded("ubuntu22-a100-official")
    late = "/etc/systemd/system/ollama.service.d/override.conf"
    facts = dataclasses.replace(facts, units=(dataclasses.replace(facts.units[0], late_command=late),))

    assert late in up(facts, release=RELEASE).problems[0].text
    assert up(facts, ollama="0.6.2").problems == ()


def test_restarting_what_is_not_there_is_a_problem() -> None:
    """With the command that sets it up."""
    (problem,) = plan_restart(recorded("debian13-root"), declare("debian13-root")).problems

    assert problem.hint == "run `olladist up` first"


def test_a_host_without_zstd_gets_another_form_of_the_archive() -> None:
    """gzip where it is there, else plain tar."""
    facts = recorded("rocky9-rtx4090-rpm")
    bare = dataclasses.replace(facts, tools=tuple(tool for tool in facts.tools if tool != "gzip"))

    assert [form for _, form in up(facts, release=RELEASE).tarballs] == [Form.GZIP]
    assert [form for _, form in up(bare, release=RELEASE).tarballs] == [Form.PLAIN]
    assert [form for _, form in up("debian13-root", release=RELEASE).tarballs] == [Form.ZSTD]


if __name__ == "__main__":
    for golden in sys.argv[1:] or GOLDENS:
        (GOLDEN / f"{golden}.txt").write_text(text(GOLDENS[golden]()))
