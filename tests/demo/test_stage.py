"""What the demo plays on."""

import os
from pathlib import Path

from olladist.demo.stage import HOSTS, SENTENCES, choose_source, set_up
from olladist.inventory.parse import load
from olladist.sim import gguf
from olladist.sim.hosts import listens


def test_the_stage_is_an_inventory_hosts_and_models(tmp_path: Path) -> None:
    """The inventory parses, its hosts listen, its models say their sentences; all of it is gone or dead afterwards."""
    with set_up(tmp_path, simulated=True) as stage:
        inventory = load(stage.home / "inventory.toml")
        ports = [host.port or 0 for host in inventory.hosts.values()]
        up = [listens(port) for port in ports]

    assert tuple(inventory.hosts) == HOSTS
    assert up == [True, True, True]
    assert {str(model.name) for model in inventory.models} == {f"{name}:latest" for name in SENTENCES}
    assert stage.gateway == f"http://{inventory.gateway.listen}"
    for name, sentence in SENTENCES.items():
        short = name.rpartition("/")[2]
        assert " ".join(gguf.read(stage.home / f"models/{short}.gguf").sentence) == sentence
    assert not any(listens(port) for port in ports)


def test_commands_find_nothing_of_the_one_who_runs_the_demo(tmp_path: Path) -> None:
    """No keys, no agent, no configuration, no inventory."""
    with set_up(tmp_path, simulated=True) as stage:
        environ = stage.environ

    assert environ["HOME"] == str(stage.home)
    assert environ.keys() - os.environ.keys() <= {"COLUMNS", "PYTHONUNBUFFERED", "NO_COLOR"}
    assert not [key for key in environ if key.startswith(("XDG_", "SSH_", "OLLADIST_"))]


def test_the_simulated_ollama_is_taken_where_it_is_asked_for(tmp_path: Path) -> None:
    """And it is said which one plays, and why."""
    source = choose_source(tmp_path, simulated=True)

    assert source.simulated
    assert source.told == "the simulated Ollama 0.17.4 of olladist.sim (as you asked for)"
    assert source.tarball.exists()
