"""Ollama installed from a mirror over HTTP, on a host with sudo, one whose sudo wants a password, and one without systemd."""

import functools
import hashlib
import http.server
import json
import os
import pty
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.machines import KEY, Hosts, Operator, address

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

USERS = {"gpu41": "ops", "gpu42": "pat", "box43": "root"}
NAME = "ollama-linux-amd64.tar.zst"


@pytest.fixture
def mirror(tmp_path: Path, ollama_release: Path) -> Iterator[str]:
    """A web server inside the network that holds one release and its checksums, as the official site lays them out."""
    folder = tmp_path / "mirror/v0.17.4"
    folder.mkdir(parents=True)
    (folder / NAME).symlink_to(ollama_release)
    (folder / "sha256sum.txt").write_text(f"{hashlib.sha256(ollama_release.read_bytes()).hexdigest()}  ./{NAME}\n")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  as the base class has it
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path / "mirror")
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def at_a_terminal(operator: Operator, words: list[str], typed: str) -> str:
    """Runs a command at a terminal of its own, where `typed` answers the one question for a password."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        words,
        cwd=operator.home,
        env=operator.environ,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    seen, answered = b"", False
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # EIO: the other side is closed
            break
        if not piece:
            break
        seen += piece
        if not answered and b"password" in seen.lower():
            os.write(ours, f"{typed}\n".encode())
            answered = True
    os.close(ours)
    assert process.wait(60) == 0, seen.decode()
    return seen.decode()


def test_a_mirror_serves_every_host_and_the_sudo_password_is_asked_for_once(
    hosts: Hosts, operator: Operator, mirror: str
) -> None:
    """One download, one question, three hosts of the exact version; a second `up` plans nothing; the password shows nowhere."""
    hosts.up(*USERS)
    fleet = f'[fleet]\nname = "lab"\nollama = "0.17.4"\nmirror = "{mirror}"\n'
    defaults = f'[defaults]\nidentity = "{KEY}"\nhost_keys = "accept-new"\n'
    entries = [f'[hosts.{name}]\naddress = "{address(name)}"\nuser = "{user}"\n' for name, user in USERS.items()]
    (operator.home / "inventory.toml").write_text(fleet + defaults + "".join(entries))

    said = at_a_terminal(operator, ["olladist", "up", "--yes"], "lab")
    versions = [hosts.ssh("root", name, "curl -s http://127.0.0.1:11434/api/version") for name in USERS]
    journal = hosts.ssh("root", "gpu42", "journalctl --no-pager")
    again = at_a_terminal(operator, ["olladist", "--json", "up", "--yes"], "lab")

    assert [json.loads(version)["version"] for version in versions] == ["0.17.4"] * 3
    assert said.lower().count("password") == 1
    assert "COMMAND=/bin/sh" in journal or "sudo" in journal
    assert "=lab" not in journal
    document, _ = json.JSONDecoder().raw_decode(again[again.index("{") :])
    assert [host["steps"] for host in document["hosts"]] == [[], [], []]
