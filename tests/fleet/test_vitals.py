"""Signs of life: a script that runs on any host, and a parser that nothing can surprise."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.errors import HostError
from olladist.fleet.vitals import GpuSign, ServerSign, parse_vitals, vitals_script
from olladist.inventory.model import Connection, Host, Instance, Service

HOST = Host("gpu1", "gpu1.example", instances=(Instance(11434), Instance(11435)))

SYSTEM = """banner of the host
@olladist-vitals 1
@units user
@units system
|Id=ollama.service
|LoadState=loaded
|ActiveState=active
|NRestarts=2
|FragmentPath=/etc/systemd/system/ollama.service
|Environment=OLLAMA_HOST=127.0.0.1:11434 "OLLAMA_ORIGINS=a b" OLLAMA_NUM_PARALLEL=4
|
|Id=ollama-11435.service
|LoadState=not-found
|ActiveState=inactive
|NRestarts=0
|FragmentPath=
@nvidia
|NVIDIA L4, 1024, 23034
|NVIDIA L4, 0, 23034
@disk
|Filesystem     1024-blocks      Used Available Capacity Mounted on
|/dev/nvme0n1p1   960302800 100000000 860302800      11% /var/lib/my models
@done
"""


def test_a_system_service_with_two_cards() -> None:
    """Its environment is read as systemd quotes it; a unit that is not there is no server."""
    vitals = parse_vitals(SYSTEM, HOST)

    environment = {"OLLAMA_HOST": "127.0.0.1:11434", "OLLAMA_ORIGINS": "a b", "OLLAMA_NUM_PARALLEL": "4"}
    assert vitals.servers == {11434: ServerSign(Service.SYSTEM, "active", environment, 2)}
    assert vitals.gpus == (GpuSign("NVIDIA L4", 1 << 30, 23034 << 20), GpuSign("NVIDIA L4", 0, 23034 << 20))
    assert vitals.gpu_problem == ""
    assert vitals.disk_free == 860302800 << 10


def test_a_driver_that_does_not_work_is_a_problem() -> None:
    """What nvidia-smi says instead of a list is passed on."""
    output = "@olladist-vitals 1\n@nvidia\n|NVIDIA-SMI has failed because it couldn't communicate\n@done\n"

    assert parse_vitals(output, HOST).gpu_problem == (
        "nvidia-smi: NVIDIA-SMI has failed because it couldn't communicate"
    )


def test_a_detached_server_and_an_amd_card() -> None:
    """The environment is that of its file, quoted for a shell."""
    output = (
        "@olladist-vitals 1\n@detached 11435\n|alive=yes\n|# Made by olladist\n|export OLLAMA_ORIGINS='a b'\n"
        "|export OLLAMA_KEEP_ALIVE=30m\n@amd\n|1000 16000\n@disk\n|x\n@done\n"
    )
    vitals = parse_vitals(output, HOST)

    environment = {"OLLAMA_ORIGINS": "a b", "OLLAMA_KEEP_ALIVE": "30m"}
    assert vitals.servers == {11435: ServerSign(Service.DETACHED, "active", environment)}
    assert vitals.gpus == (GpuSign("", 1000, 16000),)
    assert vitals.disk_free is None


def test_half_an_answer_is_an_error_that_names_the_host() -> None:
    """A connection that breaks, or a shell that says something else."""
    with pytest.raises(HostError, match="gpu1: the host's answer is cut short") as caught:
        parse_vitals(SYSTEM.replace("@done", ""), HOST)

    assert "olladist ssh gpu1" in caught.value.hint


line = st.one_of(
    st.text(max_size=20),
    st.sampled_from([line for line in SYSTEM.splitlines() if line]),
    st.sampled_from(
        ["@detached 1", "@detached x", "@amd", "|1 2", "|1", '|Environment="', "|export A='", "@units system"]
    ),
)


@given(st.lists(line, max_size=30))
def test_any_text_is_read_or_refused(lines: list[str]) -> None:
    """The parser ends in vitals or in a HostError, never in anything else."""
    output = "\n".join(["@olladist-vitals 1", *lines, "@done"])

    assert parse_vitals(output, HOST) is not None


def test_the_script_runs_with_the_plainest_shell(tmp_path: Path) -> None:
    """On this machine, whatever it has: nothing is changed, nothing is said on stderr, and the answer is whole."""
    host = Host("here", "localhost", Connection.LOCAL, models_dir=f"{tmp_path}/not/there", instances=(Instance(1),))
    done = subprocess.run(
        ["sh", "-c", vitals_script(host)], capture_output=True, text=True, env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        check=True,
    )  # fmt: skip

    assert done.stderr == ""
    assert parse_vitals(done.stdout, host).disk_free
    assert list(tmp_path.iterdir()) == []
