"""From nothing to an Ollama and back, on this machine without SSH."""

import httpx

from olladist.sim.hosts import free_ports
from tests.cli.conftest import release_for
from tests.cli.person import Person


def test_up_does_what_plan_shows_and_uninstall_takes_it_back(person: Person) -> None:
    """plan changes nothing, up does its steps, a second up has none, down stops, uninstall leaves no trace."""
    [port] = free_ports(1)
    person.write(f"""
[fleet]
name = "one"
ollama = "./{release_for(person)}"
[hosts.here]
connection = "local"
service = "detached"
instances = [{{ port = {port} }}]
""")
    before = {path.name for path in person.home.iterdir()} | {".local", ".cache", ".ollama"}

    def steps(*words: str) -> list[str]:
        document = person.document(*words)
        assert document["failed"] == []
        return [step["text"] for step in document["hosts"][0]["steps"]]

    planned = steps("plan")
    assert planned
    assert person.document("status", status=1)["hosts"][0]["drift"] == ["not installed"]

    assert steps("up", "--yes") == planned
    assert steps("up", "--yes") == []
    assert httpx.get(f"http://127.0.0.1:{port}/api/version").json() == {"version": "0.17.4"}
    assert person.document("status")["hosts"][0]["service"] == "detached"

    assert steps("down", "--dry-run") == steps("down", "--yes") != []
    assert person.document("status", status=1)["hosts"][0]["servers"][0]["state"] == "stopped"

    assert steps("uninstall", "--yes")
    assert steps("uninstall", "--yes") == []
    assert {path.name for path in person.home.iterdir()} <= before
    assert not (person.home / ".local/share/olladist").exists()

    assert (person.home / ".ollama/models").is_dir()
    assert steps("uninstall", "--yes", "--purge-models")
    assert not (person.home / ".ollama/models").exists()


def test_a_plan_that_cannot_be_carried_out_blocks_its_host(person: Person) -> None:
    """What stands against it is an error with its hint, and nothing is done."""
    [port] = free_ports(1)
    person.write(f"""
[fleet]
name = "one"
ollama = "./{release_for(person)}"
[hosts.here]
connection = "local"
service = "detached"
instances = [{{ port = {port}, gpus = [77] }}]
""")

    planned = person.olladist("plan")
    done = person.olladist("up", "--yes")

    assert (planned.returncode, done.returncode) == (1, 1)
    assert "cannot go on: instance" in planned.stdout
    assert "here: instance" in done.stderr
    assert "hint:" in done.stderr
    assert not (person.home / ".local/share/olladist").exists()


def test_without_a_terminal_a_change_needs_yes(person: Person) -> None:
    """Nobody could answer, so the command says which flag to use, and touches nothing."""
    person.write('[fleet]\nname = "one"\n[hosts.here]\nconnection = "local"\n')

    for command in (["up"], ["down"], ["restart"], ["uninstall"], ["models", "sync"]):
        done = person.olladist(*command)

        assert done.returncode == 2, command
        assert "no terminal to ask on" in done.stderr
        assert "hint: --yes" in done.stderr
