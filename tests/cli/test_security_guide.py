"""The guide about keys and TLS, followed as it stands."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from olladist.sim.hosts import free_ports
from tests.cli.person import Person

GUIDE = Path(__file__).parent.parent.parent / "docs/guides/security.md"


@pytest.fixture
def ollama(tmp_path: Path) -> Iterator[int]:
    """The port of a simulated Ollama that is reached directly: no host is needed for a door."""
    [port] = free_ports(1)
    environ = os.environ | {"OLLAMA_HOST": f"127.0.0.1:{port}", "OLLAMA_MODELS": str(tmp_path / "models")}
    process = subprocess.Popen(
        [sys.executable, "-m", "olladist.sim.ollama", "serve"], env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )  # fmt: skip
    yield port
    process.terminate()
    process.wait(30)


def test_the_door_is_locked_as_the_guide_says(person: Person, ollama: int) -> None:
    """Every command succeeds in order; what was made secret is in nothing that was logged or kept, but where it was put."""
    [port] = free_ports(1)
    guide = GUIDE.read_text().replace("11434", str(port))
    door = re.search(r"^```toml\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    assert door
    host = f'[hosts.gpu1]\naddress = "127.0.0.1"\ninstances = [{{ port = {ollama} }}]\n'
    (person.home / "inventory.toml").write_text(f'{host}\n{door[1]}transport = "direct"\n\n')
    serving: list[subprocess.Popen[str]] = []
    said, logged = "", ""
    try:
        for kind, commands in re.findall(r"^```(sh(?: background)?)\n(.*?)^```", guide, re.MULTILINE | re.DOTALL):
            if kind == "sh":
                said += run(person, commands)
            else:
                serving.append(serve(person, commands))
                logged += until_it_listens(serving[-1])
        assert [process.wait(30) for process in serving] == [0]
        assert serving[0].stderr
        logged += serving[0].stderr.read()
    finally:
        for process in serving:
            if process.poll() is None:
                process.terminate()
            process.wait(30)
            if process.stderr:
                process.stderr.close()

    assert "Ollama is running" in said
    assert '{"models":[]}' in said
    assert f"listening on https://0.0.0.0:{port}" in logged
    assert "olladist_requests_total" in (person.home / "metrics.txt").read_text()
    for secret in ("team-a.key", "admin.token"):
        text = (person.home / secret).read_text().strip()
        assert text not in logged
        assert text not in (person.home / "inventory.toml").read_text()
        assert holders(person.home, text) == {secret, secret.split(".")[0] + ".header"}


def run(person: Person, commands: str) -> str:
    done = subprocess.run(
        ["sh", "-ec", commands], cwd=person.home, env=person.environ(), capture_output=True, text=True, timeout=60, check=False
    )  # fmt: skip
    assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def serve(person: Person, commands: str) -> subprocess.Popen[str]:
    """`commands` set variables of the environment for one command: exec takes the shell's place with it."""
    variables, _, command = commands.partition(" olladist ")
    script = f"export {variables}; exec olladist {command}"
    return subprocess.Popen(
        ["sh", "-ec", script], cwd=person.home, env=person.environ(), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def until_it_listens(process: subprocess.Popen[str]) -> str:
    assert process.stderr
    said = ""
    for line in process.stderr:
        said += line
        if line.startswith("listening on "):
            return said
    raise AssertionError(said)


def holders(folder: Path, text: str) -> set[str]:
    """The names of the files below a folder in which a text stands."""
    files = [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
    return {file.name for file in files if text.encode() in file.read_bytes()}


def test_a_door_without_keys_is_not_opened(person: Person, ollama: int) -> None:
    """The command says what to do, and --insecure is what it says."""
    (person.home / "inventory.toml").write_text(
        '[hosts.gpu1]\naddress = "127.0.0.1"\n[gateway]\nlisten = "0.0.0.0:0"\n'
    )

    done = person.olladist("proxy")

    assert done.returncode == 2
    for words in ("without API keys", "olladist proxy key", "127.0.0.1", "--insecure"):
        assert words in done.stderr


def test_a_key_is_made_once(person: Person) -> None:
    """Data on stdout, talk on stderr; another one each time; a name that cannot be one is refused."""
    one, other = person.olladist("proxy", "key", "team-a"), person.olladist("proxy", "key", "team-a")

    assert re.fullmatch(r"sk-[A-Za-z0-9_-]{32}\n", one.stdout)
    assert one.stdout != other.stdout
    assert re.search(r'^\[gateway\.keys\.team-a\]\nsha256 = "[0-9a-f]{64}"$', one.stderr, re.MULTILINE)
    assert one.stdout.strip() not in one.stderr
    assert person.olladist("proxy", "key", "a b").returncode == 2
    assert '"schema": "olladist.proxy.key"' in person.olladist("--json", "proxy", "key", "a.b").stdout
