"""Commands at a terminal: host keys and plans are shown and asked about."""

import shutil
from pathlib import Path

import pytest

from olladist.sim.hosts import ThrowawayHosts, free_ports
from tests.cli.conftest import release_for
from tests.cli.person import Person
from tests.cli.typist import Typist


def at_terminal(person: Person, *words: str, term: str = "xterm") -> Typist:
    return Typist(person.command(*words), person.environ(TERM=term, COLUMNS="200"), person.home)


@pytest.fixture
def declared(person: Person) -> int:
    """An inventory with this machine in it; the port of its Ollama to be."""
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
    return port


def test_up_shows_its_plan_and_does_nothing_on_no(person: Person, declared: int) -> None:
    """The plan, the question, and an answer that is not yes: nothing was changed, and the exit status says so."""
    typist = at_terminal(person, "up")
    typist.sees("1. copy ollama-linux-")
    typist.sees("Do this?")
    typist.types("n\n")
    typist.sees("nothing was changed")

    assert typist.end() == 1
    assert not (person.home / ".local/share/olladist").exists()


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_up_does_it_on_yes(person: Person, declared: int, term: str) -> None:
    """With a display that redraws itself, and with one that cannot."""
    typist = at_terminal(person, "up", term=term)
    typist.sees("Do this?")
    typist.types("y\n")
    typist.sees("here")
    status = typist.end()
    person.out("down", "--yes")

    assert status == 0
    assert f"{declared}" in typist.transcript
    assert "Traceback" not in typist.transcript


def test_an_unknown_host_key_is_asked_about_and_a_changed_one_refused(person: Person, tmp_path: Path) -> None:
    """yes remembers it; no leaves the host out; another key in its place is refused, whatever is said."""
    with ThrowawayHosts(tmp_path / "hosts", ["gpu1"]) as hosts:
        person.write(hosts.inventory())
        declining = at_terminal(person, "exec", "--", "echo", "it runs")
        declining.sees("SHA256:")
        declining.sees("[y/N]")
        declining.types("\n")
        assert declining.end() == 1
        assert "was not accepted" in declining.transcript

        agreeing = at_terminal(person, "exec", "--", "echo", "it runs")
        agreeing.sees("[y/N]")
        agreeing.types("yes\n")
        agreeing.sees("it runs")
        assert agreeing.end() == 0
        assert person.out("exec", "--", "echo", "it runs") == "it runs\n"

        hosts.kill("gpu1")
        for suffix in ("", ".pub"):
            shutil.copy(f"{hosts.identity}{suffix}", hosts.hosts["gpu1"].folder / f"host_key{suffix}")
        hosts.start("gpu1")
        refused = person.olladist("exec", "--accept-new", "--", "echo", "it runs")

    assert refused.returncode == 1
    assert "changed" in refused.stderr
    assert "known_hosts:1" in refused.stderr
    assert refused.stdout == ""


def test_status_is_watched_until_ctrl_c(person: Person, declared: int) -> None:
    """The table comes again and again; Ctrl-C ends it with 130."""
    typist = at_terminal(person, "status", "--watch", "--interval", "0.5")
    for _ in range(3):
        typist.sees("not installed")
    typist.process.send_signal(2)

    assert typist.end() == 130
    assert "Traceback" not in typist.transcript
