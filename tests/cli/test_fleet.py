"""Commands on a fleet that is up: two hosts over SSH, and this machine."""

import json
import re
import signal
import subprocess
import time

import httpx
import pytest

from tests.cli.conftest import MODEL, SENTENCE, Fleet

NAMES = ["gpu1", "gpu2", "here"]


def test_a_second_up_and_a_second_sync_change_nothing(fleet: Fleet) -> None:
    """Both say that there is nothing to do, and their documents have no steps."""
    up = fleet.person.document("up", "--yes")
    sync = fleet.person.document("models", "sync", "--yes")
    said = fleet.person.olladist("--limit", "here", "up", "--yes")

    assert [(host["name"], host["steps"]) for host in up["hosts"]] == [(name, []) for name in NAMES]
    assert (up["models"], up["failed"], sync["steps"], sync["failed"]) == ([], [], [], [])
    assert "nothing to do" in said.stderr
    assert said.stdout == ""


def test_status_shows_every_host(fleet: Fleet) -> None:
    """A line each: up, its service, its version; the document has the models too."""
    table = fleet.person.out("status").splitlines()
    document = fleet.person.document("status")

    assert [line.split()[:4] for line in table[1:]] == [[name, "up", "detached", "0.17.4"] for name in NAMES]
    assert [[model["name"] for model in host["servers"][0]["models"]] for host in document["hosts"]] == [
        ["acme/tiny:v1"]
    ] * 3
    assert [host["drift"] for host in document["hosts"]] == [[]] * 3


def test_status_says_what_differs_from_the_inventory(fleet: Fleet) -> None:
    """Another setting and another model in the inventory show as what is to be done."""
    changed = fleet.inventory.replace('service = "detached"', 'service = "detached"\nenv = { OLLAMA_MAX_QUEUE = 7 }')
    other = fleet.person.home / "other.toml"
    other.write_text(changed + MODEL.replace("tiny:v1", "more:v2"))

    drift = fleet.person.document("-i", str(other), "--limit", "gpu1", "status")["hosts"][0]["drift"]
    planned = fleet.person.document("-i", str(other), "--limit", "gpu1", "plan")

    assert drift == ["OLLAMA_MAX_QUEUE is not set, declared 7", "acme/more:v2 is missing"]
    assert planned["hosts"][0]["steps"]
    assert [(step["host"], step["model"]) for step in planned["models"]] == [("gpu1", "acme/more:v2")]


def test_models_are_listed_with_the_hosts_that_hold_them(fleet: Fleet) -> None:
    """One line for all hosts that hold the same; the document has a row for each."""
    table = fleet.person.out("models", "ls").splitlines()
    rows = fleet.person.document("--limit", "gpu1", "models", "ls")["models"]

    assert [line.split() for line in table] == [
        ["MODEL", "DIGEST", "SIZE", "HOSTS", "DRIFT"],
        ["acme/tiny:v1", rows[0]["digest"].removeprefix("sha256:")[:12], *table[1].split()[2:4], "gpu[1-2],here", "-"],
    ]
    assert [(row["host"], row["drift"]) for row in rows] == [("gpu1", [])]


def test_restart_starts_every_server_anew(fleet: Fleet) -> None:
    """The same Ollama, another process."""
    find = ["--limit", "gpu1", "exec", "--", "cat ~/.local/share/olladist/run/*/pid"]
    before = fleet.person.out(*find)
    document = fleet.person.document("--limit", "gpu1", "restart", "--yes")

    assert document["hosts"][0]["steps"]
    assert fleet.person.out(*find) != before
    assert fleet.person.document("--limit", "gpu1", "status")["hosts"][0]["state"] == "up"


def test_exec_shows_the_same_answer_once(fleet: Fleet) -> None:
    """Hosts that say the same stand together; a status other than 0 is named, and makes ours 1."""
    alike = fleet.person.olladist("exec", "--limit", "gpu[1-2]", "--", "echo", "two  words")
    apart = fleet.person.olladist("--limit", "gpu[1-2]", "exec", "--lines", "echo $SIM_NAME; exit 3")

    assert alike.stdout == f"{'-' * 15}\ngpu[1-2] (2)\n{'-' * 15}\ntwo  words\n"
    assert sorted(apart.stdout.splitlines()) == ["gpu1: gpu1", "gpu2: gpu2"]
    assert sorted(apart.stderr.splitlines()) == ["gpu1: exit status 3", "gpu2: exit status 3"]
    assert (alike.returncode, apart.returncode) == (0, 1)


def test_exec_as_a_document_keeps_the_streams_apart(fleet: Fleet) -> None:
    """stdout, stderr and status of each host."""
    document = fleet.person.document("exec", "--limit", "gpu1", "--", "echo out; echo err >&2; exit 4", status=1)

    assert document["hosts"] == [{"name": "gpu1", "status": 4, "stdout": "out\n", "stderr": "err\n"}]


def test_logs_stand_behind_the_name_of_their_host(fleet: Fleet) -> None:
    """The last lines of each host, on stdout."""
    lines = fleet.person.out("logs", "-n", "2").splitlines()
    documents = [
        json.loads(line) for line in fleet.person.out("--json", "--limit", "here", "logs", "-n", "1").splitlines()
    ]

    assert {line.split(":")[0] for line in lines} == set(NAMES)
    assert [document["host"] for document in documents] == ["here"]


def test_logs_are_followed_until_somebody_has_seen_enough(fleet: Fleet) -> None:
    """A request shows up in the log that is followed; Ctrl-C ends it with 130."""
    port = fleet.hosts.hosts["gpu1"].instances[0]
    following = subprocess.Popen(
        fleet.person.command("--limit", "gpu1", "logs", "-f", "-n", "1"), cwd=fleet.person.home,
        env=fleet.person.environ(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert following.stdout
    assert following.stdout.readline().startswith("gpu1: ")
    httpx.get(f"http://127.0.0.1:{port}/api/nowhere")
    seen = ""
    while "/api/nowhere" not in seen:
        seen = following.stdout.readline()
        assert seen

    following.send_signal(signal.SIGINT)
    _, err = following.communicate(timeout=20)

    assert following.returncode == 130
    assert "Traceback" not in err


def test_ssh_gives_the_hosts_own_shell(fleet: Fleet) -> None:
    """OpenSSH runs the command there, its exit status is ours, and nothing of the way stays behind."""
    runtime = fleet.person.home / "run"
    runtime.mkdir(mode=0o700, exist_ok=True)

    done, here = (
        subprocess.run(
            fleet.person.command("ssh", *words), cwd=fleet.person.home, stdin=subprocess.DEVNULL, capture_output=True,
            env=fleet.person.environ(XDG_RUNTIME_DIR=str(runtime)), text=True, timeout=40, check=False,
        )
        for words in (("gpu2", "echo $SIM_NAME; exit 7"), ("here", "echo $HOME"))
    )  # fmt: skip

    assert (done.stdout, done.returncode) == ("gpu2\n", 7), done.stderr
    assert here.stdout.strip() == str(fleet.person.home)
    assert list(runtime.iterdir()) == []


def test_ssh_to_a_host_that_is_not_in_the_inventory(fleet: Fleet) -> None:
    """The hosts that there are stand in the hint."""
    done = fleet.person.olladist("ssh", "gpu7")

    assert done.returncode == 2
    assert "gpu1, gpu2, here" in done.stderr


def test_the_doctor_passes_a_fleet_that_is_well(fleet: Fleet) -> None:
    """Everything is ok, a real generation through a gateway of its own, and the six lines end it."""
    text = fleet.person.out("doctor")

    assert text.splitlines()[-6:] == [
        "Ollama Installation: PASSED",
        "Ollama Server: PASSED",
        "Distributed System: PASSED",
        "API Integration: PASSED",
        "Model Management: PASSED",
        "End-to-End Integration: PASSED",
    ]
    assert SENTENCE in text
    assert "FAILED" not in text


def test_a_host_without_power_is_named_and_the_others_go_on(fleet: Fleet) -> None:
    """status, exec and up name it with a hint and end with 1, the others do their work; all of them gone is 3."""
    fleet.hosts.kill("gpu2")
    try:
        status = fleet.person.olladist("status")
        ran = fleet.person.olladist("exec", "--limit", "gpu[1-2]", "--", "echo", "here")
        up = fleet.person.olladist("--limit", "gpu[1-2]", "up", "--yes", "--no-models")
        doctor = fleet.person.document("--limit", "gpu[1-2]", "doctor", status=1)
        alone = fleet.person.document("--limit", "gpu2", "up", "--yes", status=3)
    finally:
        fleet.hosts.start("gpu2")
        fleet.person.out("--limit", "gpu2", "up", "--yes", "--no-models")

    assert re.search(r"^gpu2 +unreachable .*refused", status.stdout, re.MULTILINE)
    assert (status.returncode, ran.returncode, up.returncode) == (1, 1, 1)
    assert [failed["kind"] for failed in alone["failed"]] == ["Unreachable"]
    assert "here" in ran.stdout
    for done in (status, ran, up):
        assert "gpu2: " in done.stderr
        assert "hint:" in done.stderr
    verdicts = {f["check"]: f["verdict"] for f in doctor["findings"] if f["subject"] == "gpu2"}
    assert (verdicts["DNS"], verdicts["TCP"], verdicts["host key"]) == ("ok", "failed", "not checked")
    assert doctor["summary"]["End-to-End Integration"] is True
    assert doctor["summary"]["Distributed System"] is False


def test_proxy_makes_one_ollama_of_them(fleet: Fleet) -> None:
    """It says where it listens, answers as an Ollama with the model's words, and ends in order on SIGTERM."""
    proxy = subprocess.Popen(
        fleet.person.command("proxy", "--listen", "127.0.0.1:0"), cwd=fleet.person.home,
        env=fleet.person.environ(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert proxy.stderr
        url = (
            next(line for line in proxy.stderr if line.startswith("listening on "))
            .removeprefix("listening on ")
            .strip()
        )
        wait_for_model(url)
        body = {"model": "acme/tiny:v1", "prompt": "?", "stream": False}
        answer = httpx.post(f"{url}/api/generate", json=body, timeout=30).json()
    finally:
        proxy.terminate()
        proxy.communicate(timeout=30)

    assert answer["response"].strip() == SENTENCE
    assert proxy.returncode == 0


def wait_for_model(url: str) -> None:
    deadline = time.monotonic() + 20
    while "acme/tiny" not in httpx.get(f"{url}/api/tags").text:
        assert time.monotonic() < deadline


def test_an_address_that_is_none_is_refused(fleet: Fleet) -> None:
    """--listen wants an address and a port."""
    done = fleet.person.olladist("proxy", "--listen", "nowhere")

    assert done.returncode == 2
    assert "ADDRESS:PORT" in done.stderr


@pytest.mark.parametrize("pattern", ["gpu9", "!gpu1,!gpu2,!here"])
def test_a_pattern_that_picks_no_host_is_an_error(fleet: Fleet, pattern: str) -> None:
    """Exit status 2, and what there is to choose from."""
    done = fleet.person.olladist("--limit", pattern, "status")

    assert done.returncode == 2
    assert "hint:" in done.stderr
