"""Decisions: service mode, adopted or installed, store, environment."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.host.desired import choose, file_version, release_name
from olladist.host.found import Sudo
from olladist.host.tarball import Release
from olladist.inventory.model import Host, Instance, Service
from tests.host.declaring import declare
from tests.host.recorded import recorded


@pytest.mark.parametrize(
    ("case", "mode"),
    [
        ("debian13-root", Service.SYSTEM),
        ("debian13-system-service", Service.SYSTEM),  # ops, sudo without a password
        ("debian13-sudo-password", Service.SYSTEM),
        ("debian13-user-service", Service.USER),  # no sudo, lingers
        ("debian13-no-sudo", Service.DETACHED),  # systemd --user, but it would end at logout
        ("debian13-detached", Service.DETACHED),
        ("wsl2-no-systemd", Service.DETACHED),
        ("container-h100", Service.DETACHED),
        ("alpine-busybox", Service.DETACHED),
    ],
)
def test_auto_picks_the_most_lasting_service_that_the_host_allows(case: str, mode: Service) -> None:
    """System with root and systemd, else user where it outlives the login, else detached."""
    wanted = declare(case)

    assert wanted.mode is mode
    assert wanted.problems == ()
    assert wanted.prefix == (
        "/opt/olladist" if mode is Service.SYSTEM else f"{recorded(case).home}/.local/share/olladist"
    )


@pytest.mark.parametrize(
    ("case", "service", "says"),
    [
        ("debian13-detached", Service.SYSTEM, "no systemd runs here"),
        ("debian13-no-sudo", Service.SYSTEM, "plain cannot become root"),
        ("container-h100", Service.USER, "systemd --user does not answer root"),
    ],
)
def test_a_service_that_cannot_be_is_a_problem_and_not_another_service(case: str, service: Service, says: str) -> None:
    """What the inventory asks for by name is never replaced in silence."""
    (problem,) = declare(case, service=service).problems

    assert says in problem.text
    assert problem.hint


def test_a_user_service_without_lingering_says_when_it_will_end() -> None:
    """Asked for by name it is set up, with a note."""
    wanted = declare("debian13-no-sudo", service=Service.USER)

    assert wanted.mode is Service.USER
    assert any("ends when plain logs out" in note for note in wanted.notes)


def test_without_setsid_nothing_can_be_detached() -> None:
    """The server would be part of the login's process group."""
    facts = recorded("container-h100")
    facts = dataclasses.replace(facts, tools=tuple(tool for tool in facts.tools if tool != "setsid"))

    assert "setsid(1) is missing" in declare(facts).problems[0].text


def test_machines_without_a_release_are_refused() -> None:
    """Ollama for servers exists for Linux on amd64 and arm64."""
    mac = dataclasses.replace(recorded("debian13-root"), system="Darwin")
    risc = dataclasses.replace(recorded("debian13-root"), arch="riscv64", machine="riscv64")

    assert "Linux only" in declare(mac).problems[0].text
    assert "riscv64" in declare(risc).problems[0].text


# ---- adopted or installed ----


@pytest.mark.parametrize(
    ("case", "wanted", "adopted"),
    [
        ("ubuntu22-a100-official", "0.6.2", "/usr/local/bin/ollama"),
        ("ubuntu22-a100-official", "v0.6.2", "/usr/local/bin/ollama"),
        ("ubuntu22-a100-official", "latest", "/usr/local/bin/ollama"),
        ("ubuntu22-a100-official", "https://files.example/ollama-0.6.2-linux-amd64.tgz", "/usr/local/bin/ollama"),
        ("ubuntu22-a100-official", "0.17.4", None),
        ("ubuntu22-a100-official", "https://files.example/ollama-linux-amd64.tgz", None),
        ("arch-amd-pacman", "0.17.4", "/usr/bin/ollama"),
        ("rocky9-rtx4090-rpm", "0.9.4", "/usr/bin/ollama"),
        ("ubuntu24-snap", "latest", None),  # its binary and store are out of reach behind the snap's walls
        ("debian12-noexec-home-by-hand", "latest", None),  # it cannot even be run
    ],
)
def test_an_ollama_of_the_wanted_version_is_adopted(case: str, wanted: str, adopted: str | None) -> None:
    """Whoever installed it; "latest" means any; a tarball without a version in its name is always installed."""
    choice = choose(Host("gpu1", "gpu1", ollama=wanted), recorded(case))

    assert (choice.adopted.path if choice.adopted else None) == adopted


def test_our_own_release_is_kept_before_anything_else_is_adopted() -> None:
    """With "latest", what olladist installed stays until `upgrade`."""
    choice = choose(Host("gpu1", "gpu1", ollama="latest"), recorded("debian13-system-service"))

    assert choice.adopted is None
    assert choice.installed == "tarball-de317275"


def test_the_store_of_an_adopted_service_stays_its_store() -> None:
    """From its OLLAMA_MODELS, its EnvironmentFile or its HOME, and with its user; models_dir in the inventory overrides."""
    assert declare("ubuntu22-a100-official").store.path == "/data/ollama"
    assert declare("rocky9-rtx4090-rpm").store.path == "/srv/models"
    assert declare("arch-amd-pacman").store.path == "/var/lib/ollama/.ollama/models"
    assert declare("arch-amd-pacman").user == "ollama"

    moved = declare("ubuntu22-a100-official", models_dir="/raid/models")

    assert moved.store.path == "/raid/models"
    assert any("models in /data/ollama stay there" in note for note in moved.notes)


def test_where_nothing_was_the_store_is_ollamas_own() -> None:
    """The system service's in the home of `ollama`, any other in the user's."""
    assert declare("debian13-root").store.path == "/usr/share/ollama/.ollama/models"
    assert declare("debian13-detached").store.path == "/root/.ollama/models"
    assert declare("debian13-no-sudo", models_dir="~/big/models").store.path == "/home/plain/big/models"


def test_settings_of_an_adopted_unit_that_the_inventory_overrules_are_noted() -> None:
    """Its OLLAMA_NUM_PARALLEL=4 would make our count of slots wrong."""
    wanted = declare("ubuntu22-a100-official")

    assert wanted.servers[0].environment["OLLAMA_NUM_PARALLEL"] == "1"
    assert any("sets OLLAMA_NUM_PARALLEL=4; the inventory's 1 rules" in note for note in wanted.notes)


def test_a_store_of_somebody_else_is_a_problem() -> None:
    """A service that cannot write its models is not worth starting."""
    facts = recorded("ubuntu22-a100-official")
    stolen = dataclasses.replace(facts.paths["/data/ollama"], owner="bob")
    facts = dataclasses.replace(facts, paths={**facts.paths, "/data/ollama": stolen})

    assert "/data/ollama belongs to bob" in declare(facts).problems[0].text


# ---- servers ----


def test_the_instance_on_ollamas_own_port_is_ollama_service() -> None:
    """So that it is the one an official unit is adopted for; without that port it is the first."""
    both = declare("debian13-root", instances=(Instance(11500), Instance(11434)))
    neither = declare("debian13-root", instances=(Instance(11500), Instance(11501)))

    assert [server.name for server in both.servers] == ["ollama-11500", "ollama"]
    assert [server.name for server in neither.servers] == ["ollama", "ollama-11501"]


def test_ollama_listens_on_loopback_unless_the_transport_is_direct() -> None:
    """OLLAMA_HOST is ours to set, whatever `env` says."""
    tunnel = declare("debian13-root", env={"OLLAMA_HOST": "0.0.0.0:1"})
    direct = declare("debian13-root", direct=True)

    assert tunnel.servers[0].environment["OLLAMA_HOST"] == "127.0.0.1:11434"
    assert direct.servers[0].environment["OLLAMA_HOST"] == "0.0.0.0:11434"


@pytest.mark.parametrize(
    ("case", "gpus", "environment"),
    [
        ("ubuntu22-a100-official", (1,), {"CUDA_VISIBLE_DEVICES": "GPU-b7e0f4a9-61c3-4d52-8e1f-92aa30c4d5e6", "OLLAMA_VULKAN": "0"}),
        ("ubuntu24-mi300x-rocm7", (1, 0), {"ROCR_VISIBLE_DEVICES": "GPU-1f00c0de12345678,GPU-ec9e8dfe4a2a2a84", "OLLAMA_VULKAN": "0"}),
        ("arch-amd-pacman", (0, 1), {"ROCR_VISIBLE_DEVICES": "0,1", "OLLAMA_VULKAN": "0"}),  # one of them has no id
        ("jetson-orin", (), {"CUDA_VISIBLE_DEVICES": "-1", "ROCR_VISIBLE_DEVICES": "-1", "OLLAMA_VULKAN": "0"}),
        ("ubuntu22-a100-official", None, {}),
    ],
)  # fmt: skip
def test_an_instance_sees_its_gpus_and_no_others(
    case: str, gpus: tuple[int, ...] | None, environment: dict[str, str]
) -> None:
    """By uuid where all are known; none at all for (); nothing is set for None."""
    found = declare(case, instances=(Instance(11434, gpus),)).servers[0].environment

    assert {name: value for name, value in found.items() if "VISIBLE" in name or "VULKAN" in name} == environment


def test_a_gpu_that_is_not_there_is_a_problem() -> None:
    """It names the ones that are."""
    (problem,) = declare("ubuntu22-a100-official", instances=(Instance(11434, (0, 7)),)).problems

    assert problem.text == "instance 11434 asks for GPU 7; the host has: 0, 1"


def test_servers_that_share_a_store_do_not_prune_it() -> None:
    """Each would remove at its start what the other is just pulling."""
    assert (
        declare("debian13-root", instances=(Instance(1), Instance(2))).servers[0].environment["OLLAMA_NOPRUNE"] == "1"
    )
    assert "OLLAMA_NOPRUNE" not in declare("debian13-root").servers[0].environment


def test_the_revision_changes_with_binary_and_settings_and_with_nothing_else() -> None:
    """A running server is restarted exactly when it is not what is declared."""

    def revision(**settings: Any) -> str:
        return declare("debian13-root", **settings).servers[0].revision

    assert revision() == revision()
    assert revision(release=Release("0.17.5", "")) != revision()
    assert revision(env={"OLLAMA_KEEP_ALIVE": "1h"}) != revision()
    assert revision(env={"A": "1", "B": "2"}) == revision(env={"B": "2", "A": "1"})


# ---- names ----


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("ollama-0.17.4-linux-amd64.tar.zst", "0.17.4"),
        ("/srv/ollama_v0.14.0-rc2.tgz", "0.14.0-rc2"),
        ("ollama-linux-amd64.tar.zst", ""),
        ("https://files.example/1.2.3.4/ollama.tgz", ""),
    ],
)
def test_the_version_of_a_tarball_is_read_from_its_name(name: str, version: str) -> None:
    """Where it stands there."""
    assert file_version(name) == version


@given(st.text(max_size=60))
def test_any_file_name_is_looked_at_without_an_error(name: str) -> None:
    """Names come from people and URLs."""
    assert "/" not in release_name(file_version(name), ("rocm",), "ab" * 32)


def test_facts_read_without_the_password_still_lead_to_a_mode() -> None:
    """status asks nobody for a password, and names the service all the same."""
    facts = recorded("debian13-sudo-password")

    assert (facts.sudo, facts.as_root) == (Sudo.PASSWORD, False)
    assert declare(facts).mode is Service.SYSTEM
