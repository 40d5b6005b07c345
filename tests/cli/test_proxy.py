"""`olladist proxy` and what is asked of it while it runs, on a fleet that is up."""

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.cli.conftest import MODEL, Fleet
from tests.cli.person import Person
from tests.cli.test_fleet import wait_for_model

ASK = {"model": "acme/tiny:v1", "prompt": "?", "stream": False}


@dataclass
class Gateway:
    """A gateway as a process of its own; `said` is its stderr."""

    process: subprocess.Popen[str]
    url: str
    said: list[str] = field(default_factory=list)

    @property
    def listen(self) -> str:
        return self.url.removeprefix("http://")

    def asked(self) -> int:
        return httpx.post(f"{self.url}/api/generate", json=ASK, timeout=30).status_code


@contextlib.contextmanager
def gateway(person: Person, *words: str, inventory: str = "inventory.toml") -> Iterator[Gateway]:
    """One that serves; it is stopped at the end if it still runs."""
    with subprocess.Popen(
        person.command("-i", inventory, "proxy", *words), cwd=person.home, env=person.environ(), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        said: list[str] = []
        assert process.stderr
        try:
            for line in process.stderr:
                said.append(line)
                if line.startswith("listening on "):
                    break
            else:
                raise AssertionError("".join(said))
            reading = threading.Thread(target=said.extend, args=(process.stderr,))
            reading.start()
            yield Gateway(process, said[-1].removeprefix("listening on ").strip(), said)
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(30)


@pytest.fixture
def inventory(fleet: Fleet) -> Iterator[Path]:
    """One of this test's own, with the two hosts over SSH: so that gateways of other tests are not found."""
    path = fleet.person.home / "proxy.toml"
    path.write_text(fleet.inventory.partition("[hosts.here]")[0] + MODEL)
    yield path
    for left in (fleet.person.home / ".local/state/olladist/gateway").glob("*"):
        left.unlink()


def test_a_running_gateway_is_found_and_shown(fleet: Fleet, inventory: Path) -> None:
    """Its processes, and a line for each node; the document has the same; nothing of it is left when it has ended."""
    person, at = fleet.person, str(inventory)
    none = person.olladist("-i", at, "proxy", "status")
    with gateway(person, "--listen", "127.0.0.1:0", "--workers", "2", inventory=at) as running:
        wait_for_model(running.url)
        table = person.out("-i", at, "proxy", "status")
        [document] = person.document("-i", at, "proxy", "status")["gateways"]
        elsewhere = person.olladist("-i", at, "proxy", "status", "--listen", "127.0.0.1:1")
    ended = person.olladist("-i", at, "proxy", "status")

    assert none.returncode == ended.returncode == elsewhere.returncode == 1
    assert f"no gateway of {at} runs" in none.stderr
    assert "hint: `olladist proxy` starts one" in ended.stderr
    assert running.listen in elsewhere.stderr
    assert table.startswith(f"{running.url}: distributed, adaptive, tunnel, up for ")
    assert [line.split()[:2] for line in table.splitlines()[3:]] == [["gpu1", "up"], ["gpu2", "up"]]
    assert (document["url"], document["pid"], document["problem"]) == (running.url, running.process.pid, "")
    assert [each["name"] for each in document["processes"]] == ["control", "edge 1", "edge 2"]
    assert [(node["name"], node["models"]) for node in document["nodes"]] == [("gpu1", 1), ("gpu2", 1)]
    assert not Path(document["run_dir"]).exists()


def test_two_gateways_of_one_inventory_are_told_apart(fleet: Fleet, inventory: Path) -> None:
    """status shows both; what would change one asks which."""
    person, at = fleet.person, str(inventory)
    with (
        gateway(person, "--listen", "127.0.0.1:0", inventory=at) as one,
        gateway(person, "--listen", "127.0.0.1:0", inventory=at) as two,
    ):
        both = person.document("-i", at, "proxy", "status")["gateways"]
        unclear = person.olladist("-i", at, "proxy", "stop")
        stopped = person.document("-i", at, "proxy", "stop", "--listen", two.listen)
        assert two.process.wait(10) == 0

        assert [each["url"] for each in both] == [one.url, two.url]
        assert unclear.returncode == 2
        assert one.listen in unclear.stderr
        assert (stopped["pid"], stopped["cut"]) == (two.process.pid, 0)
        assert [each["url"] for each in person.document("-i", at, "proxy", "status")["gateways"]] == [one.url]


@pytest.mark.parametrize("strategy", ["adaptive", "model-affinity"])
def test_it_is_explained_where_a_request_would_go(fleet: Fleet, inventory: Path, strategy: str) -> None:
    """And there it goes. What is wrong in the question is told with what comes near: exit status 2."""
    person, at = fleet.person, str(inventory)
    with gateway(person, "--listen", "127.0.0.1:0", "--strategy", strategy, inventory=at) as running:
        wait_for_model(running.url)
        said = person.document("-i", at, "proxy", "explain", "acme/tiny:v1", "--options", "num_ctx=512")
        table = person.out("-i", at, "proxy", "explain", "acme/tiny:v1")
        first = person.document("-i", at, "proxy", "explain", "acme/tiny:v1")["node"]
        node = httpx.post(f"{running.url}/api/generate", json=ASK, timeout=30).headers["x-ollama-node"]
        misspelt = person.olladist("-i", at, "proxy", "explain", "acme/tine:v1")
        nobody = person.olladist("-i", at, "proxy", "explain", "acme/tiny:v1", "--key", "me")
        other = person.olladist("-i", at, "proxy", "explain", "acme/tiny:v1", "--options", "seed=1")

    assert (said["strategy"], said["goes"], said["options"]) == (strategy, "node", "num_ctx=512")
    assert {each["node"] for each in said["nodes"]} == {"gpu1", "gpu2"}
    assert first == node
    head, columns, *rows = table.splitlines()
    assert head.startswith(f"acme/tiny:v1: it would go to {first} now")
    assert columns.split()[:4] == ["NODE", "STATE", "MODEL", "SLOTS"]
    assert rows[0].startswith(first)
    assert "would go here now: " in rows[0]
    assert (misspelt.returncode, nobody.returncode, other.returncode) == (2, 2, 2)
    assert "hint: did you mean acme/tiny:v1?" in misspelt.stderr
    assert "there is no API key 'me'" in nobody.stderr
    assert "num_ctx" in other.stderr


def test_a_reload_says_what_it_has_changed(fleet: Fleet, inventory: Path) -> None:
    """A broken inventory: file and line, exit status 2, and nothing changes. Then a host less, another strategy, and what waits for a restart."""
    person, at, text = fleet.person, str(inventory), inventory.read_text()
    with gateway(person, "--listen", "127.0.0.1:0", inventory=at) as running:
        wait_for_model(running.url)
        inventory.write_text(text + "\n[gateway]\nstrategie = 1\n")
        broken = person.olladist("-i", at, "proxy", "reload")
        assert broken.returncode == 2
        assert f"{at}:{len(text.splitlines()) + 3}: gateway.strategie" in broken.stderr
        assert running.asked() == 200

        lines = text.partition("[hosts.gpu2]")[0] + MODEL + '\n[gateway]\nstrategy = "round-robin"\nworkers = 3\n'
        inventory.write_text(lines)
        done = person.document("-i", at, "proxy", "reload")
        said = person.olladist("-i", at, "proxy", "reload")

        assert (done["added"], done["removed"]) == ([], ["gpu2"])
        assert [(each["name"], each["after"]) for each in done["settings"]] == [("strategy", "round-robin")]
        assert [each["name"] for each in done["needs_restart"]] == ["workers"]
        assert "! workers: 1 -> 3: needs a restart" in said.stderr
        assert running.asked() == 200


def test_a_drained_host_gets_no_work_until_it_is_given_back(fleet: Fleet, inventory: Path) -> None:
    """drain waits for what runs there and says so in status; the last holder needs --force; undrain ends it."""
    person, at = fleet.person, str(inventory)
    with gateway(person, "--listen", "127.0.0.1:0", inventory=at) as running:
        wait_for_model(running.url)
        drained = person.document("-i", at, "proxy", "drain", "gpu1")
        nodes = {httpx.post(f"{running.url}/api/generate", json=ASK).headers["x-ollama-node"] for _ in range(6)}
        table = person.out("-i", at, "proxy", "status")
        last = person.olladist("-i", at, "proxy", "drain", "gpu2")
        forced = person.olladist("-i", at, "proxy", "drain", "gpu2", "--force", "--no-wait")
        unknown = person.olladist("-i", at, "proxy", "drain", "gpu7")
        refused = running.asked()
        back = person.olladist("-i", at, "proxy", "undrain", "gpu[1-2]")

        assert (drained["nodes"], drained["changed"]) == ([{"name": "gpu1", "in_flight": 0}], ["gpu1"])
        assert nodes == {"gpu2"}
        assert table.splitlines()[3].split()[:2] == ["gpu1", "drained"]
        assert last.returncode == 1
        assert "nobody else has acme/tiny:v1" in last.stderr
        assert "--force" in last.stderr
        assert forced.returncode == 0
        assert "requests for it fail" in forced.stderr
        assert (unknown.returncode, refused) == (2, 503)
        assert "gets work again: gpu1, gpu2" in back.stderr
        assert running.asked() == 200


def test_another_gateway_takes_over_at_the_same_address(fleet: Fleet, inventory: Path) -> None:
    """--replace ends the old one with status 0; at another address it is refused, and with a broken inventory the old one goes on."""
    person, at, text = fleet.person, str(inventory), inventory.read_text()
    with gateway(person, "--listen", "127.0.0.1:0", inventory=at) as old:
        elsewhere = person.olladist("-i", at, "proxy", "--replace", "--listen", "127.0.0.1:1")
        inventory.write_text(text + '\n[gateway]\ncloud = "gpu7"\n')
        broken = person.olladist("-i", at, "proxy", "--replace", "--listen", old.listen)
        inventory.write_text(text)
        assert (elsewhere.returncode, broken.returncode) == (2, 2)
        assert f"listens on {old.listen}" in elsewhere.stderr
        again = person.olladist("-i", at, "proxy", "--listen", old.listen)
        assert again.returncode == 1
        assert "--replace" in again.stderr
        assert old.asked() == 200

        with gateway(person, "--replace", "--listen", old.listen, inventory=at) as new:
            assert new.url == old.url
            assert f"took over from process {old.process.pid}" in "".join(new.said)
            assert old.process.wait(20) == 0
            assert new.asked() == 200
            [found] = person.document("-i", at, "proxy", "status")["gateways"]
            assert found["pid"] == new.process.pid
            stop = person.olladist("-i", at, "proxy", "stop", "--now")
            assert new.process.wait(10) == 0
            assert f"stopped {new.url}" in stop.stderr


def test_a_hangup_reloads(fleet: Fleet, inventory: Path) -> None:
    """SIGHUP, as service managers send it: the log says what has become of it."""
    person, at = fleet.person, str(inventory)
    with gateway(person, "--listen", "127.0.0.1:0", inventory=at) as running:
        running.process.send_signal(signal.SIGHUP)
        while not any(json.loads(line)["event"] == "reloaded" for line in tuple(running.said) if line.startswith("{")):
            assert running.process.poll() is None
        assert running.asked() == 200


def test_options_of_the_gateway_do_not_go_with_orders_to_one(person: Person) -> None:
    """`proxy --workers 2 status` would not do what it says."""
    person.write('[hosts.here]\nconnection = "local"\n')

    done = person.olladist("proxy", "--workers", "2", "status")

    assert done.returncode == 2
    assert "would start a gateway" in done.stderr


def test_what_a_killed_gateway_leaves_is_cleared_away(fleet: Fleet, inventory: Path) -> None:
    """It is not found, and the next start removes its run directory."""
    person, at = fleet.person, str(inventory)
    with gateway(person, "--listen", "127.0.0.1:0", inventory=at) as running:
        [found] = person.document("-i", at, "proxy", "status")["gateways"]
        os.kill(running.process.pid, signal.SIGKILL)
        running.process.wait(10)
        assert Path(found["run_dir"]).is_dir()
        assert person.olladist("-i", at, "proxy", "status").returncode == 1

        with gateway(person, "--listen", "127.0.0.1:0", inventory=at):
            assert not Path(found["run_dir"]).exists()
