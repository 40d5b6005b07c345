"""How commands end, whatever they do."""

import json
import signal
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from olladist import __version__, is_compiled
from olladist.cli.app import app
from tests.cli.person import Person

LOCAL = '[fleet]\nname = "one"\n[hosts.here]\nconnection = "local"\n'


def test_the_version() -> None:
    """One line on stdout, which says also what the gateway's speed depends on."""
    kind = "compiled" if is_compiled() else "interpreted"

    assert CliRunner().invoke(app, ["--version"]).output == f"olladist {__version__}, the gateway is {kind}\n"


@pytest.mark.parametrize("words", [[], ["models"]])
def test_a_command_that_is_missing_shows_the_help_and_fails(words: list[str]) -> None:
    """Nothing was asked for: exit status 2, so that a script notices."""
    result = CliRunner().invoke(app, words)

    assert result.exit_code == 2
    assert "Commands:" in result.stderr
    assert result.stdout == ""


def test_help_needs_nothing_of_what_the_commands_need() -> None:
    """`--help` imports neither SSH nor HTTP libraries, so it answers at once."""
    script = "import sys\nfrom olladist.cli.app import app\nimport typer\ntyper.main.get_command(app)(['up', '--help'], standalone_mode=False)\nprint(sorted({'asyncssh', 'httpx', 'rich.console', 'msgspec'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["frobnicate"], "error: no such command 'frobnicate'\n\nhint: olladist --help\n"),
        (["status", "--colour"], "error: no such option: --colour\n\nhint: olladist status --help\n"),
        (["logs", "-n", "many"], None),
        (["ssh"], "error: missing argument 'HOST'\n\nhint: olladist ssh --help\n"),
    ],
)
def test_a_command_line_that_cannot_be_read(words: list[str], said: str | None) -> None:
    """`error: …`, a blank line, `hint: …`, exit status 2, and nothing on stdout."""
    result = CliRunner().invoke(app, words)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == said or (said is None and "invalid value for '--lines' / '-n'" in result.stderr)


def test_an_error_before_the_beginning_is_a_document_too(person: Person) -> None:
    """With --json a program reads the error on stdout, every problem of the inventory in it."""
    person.write('[fleet]\nname = "one"\n[hosts.here]\nconnection = "lokal"\nusr = "ops"\n')

    document = person.document("status", status=2)

    assert (document["schema"], document["version"], document["exit_status"]) == ("olladist.error", 1, 2)
    assert [problem["line"] for problem in document["problems"]] == [4, 5]


def test_an_inventory_with_problems_shows_them_all(person: Person) -> None:
    """File, line and key of each, and the name that was meant."""
    person.write('[fleet]\nname = "one"\n[hosts.here]\nconnection = "lokal"\nusr = "ops"\n')

    done = person.olladist("status")

    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "error: inventory.toml has 2 problems"
    assert "inventory.toml:4: hosts.here.connection" in done.stderr
    assert "inventory.toml:5: hosts.here.usr" in done.stderr
    assert "user" in done.stderr


def test_without_an_inventory_the_way_to_one_is_shown(person: Person) -> None:
    """Where it was looked for, and the command that writes one."""
    done = person.olladist("status")

    assert done.returncode == 2
    assert "olladist init" in done.stderr


def test_ctrl_c_says_what_was_under_way_and_ends_with_130(person: Person) -> None:
    """The command on the host is ended too."""
    person.write(LOCAL)
    flag = person.home / "flag"
    script = f"trap 'echo ended > {flag}.ended; exit' TERM; mkfifo {flag}; read -r x < {flag} & wait"
    running = subprocess.Popen(
        person.command("exec", "--", script), cwd=person.home, env=person.environ(),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    watch = subprocess.run(["sh", "-c", f"until [ -p {flag} ]; do sleep 0.05; done"], timeout=30, check=True)

    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)

    assert watch.returncode == 0
    assert running.returncode == 130
    assert out == ""
    assert err.startswith(f"interrupted\n  here: {script}\n\nhint: ")
    assert (person.home / "flag.ended").exists()


def test_a_defect_is_one_line_and_a_traceback_in_a_file(person: Person) -> None:
    """Nobody is shown a wall of text; whoever mends it finds it in the state directory, readable by its owner alone."""
    script = "import sys; from olladist.cli.app import report_defect; sys.excepthook = report_defect; 1 / 0"
    done = subprocess.run(
        [sys.executable, "-c", script], env=person.environ(), capture_output=True, text=True, check=False
    )

    log = person.home / ".local/state/olladist/crash.log"
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: olladist has a defect: ZeroDivisionError: division by zero",
        "",
        f"hint: the traceback is at the end of {log}; please report it",
    ]
    assert "Traceback" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_machine_that_fails_us_is_named(person: Person) -> None:
    """What the operating system said, and of which path: here a cache directory that cannot be one."""
    (person.home / "release.tgz").write_text("")
    person.write(LOCAL.replace("[fleet]", '[fleet]\nollama = "./release.tgz"'))

    done = subprocess.run(
        person.command("plan"), cwd=person.home, env=person.environ(XDG_CACHE_HOME="/dev/null"), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=40, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert done.stderr.startswith("error: /dev/null/olladist: Not a directory\n\nhint: the traceback is at the end of ")


def test_a_reader_that_has_gone_is_no_defect(person: Person) -> None:
    """`olladist … | head -0` ends without a word."""
    person.write(LOCAL)
    running = subprocess.Popen(
        person.command("exec", "--", "seq", "100000"), cwd=person.home, env=person.environ(),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stdout
    running.stdout.close()
    assert running.stderr
    said = running.stderr.read()
    running.stderr.close()

    assert running.wait(30) == 1
    assert said == ""


def test_every_option_has_help() -> None:
    """Every command says what it does, and so does each of its options and arguments."""
    silent = []

    def look(command: object, name: str) -> None:
        children = getattr(command, "commands", {})
        if not getattr(command, "help", ""):
            silent.append(name)
        silent.extend(f"{name} {p.name}" for p in getattr(command, "params", []) if not getattr(p, "help", ""))
        for child_name, child in children.items():
            look(child, f"{name} {child_name}")

    look(typer.main.get_command(app), "olladist")

    assert silent == []


def test_the_nearest_command_is_a_hint() -> None:
    """Also in the document of --json."""
    result = CliRunner().invoke(app, ["--json", "stauts"])

    document = json.loads(result.stdout)
    assert document["error"] == "no such command 'stauts'"
    assert "did you mean 'status'" in document["hint"]
