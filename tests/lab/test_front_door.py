"""A gateway that is locked, and the official `ollama` command, which can send no header, in front of it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from olladist.gateway.access import digest_of
from olladist.sim.hosts import free_ports
from tests.gateway.certificates import make_pair
from tests.lab.machines import OLLAMA

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]

KEY = "sk-a-key-for-the-command-line"


@contextmanager
def running(command: list[str], environ: dict[str, str], word: str) -> Iterator[None]:
    """Until `word` has been said on stderr, and then for the length of the block."""
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        assert any(word in line for line in process.stderr)
        yield
    finally:
        process.terminate()
        process.communicate(timeout=30)


def ollama(address: str, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environ = {
        "HOME": str(home),
        "PATH": "/usr/bin:/bin",
        "OLLAMA_HOST": address,
        "SSL_CERT_FILE": str(home / "cert.pem"),
    }
    return subprocess.run([OLLAMA, *words], env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_the_ollama_command_comes_in_with_a_key_in_its_address(tmp_path: Path) -> None:
    """Over TLS: list, pull's refusal and a heartbeat work; without the key it says what is missing."""
    cert, key = make_pair(tmp_path)
    backend, front = free_ports(2)
    inventory = tmp_path / "inventory.toml"
    inventory.write_text(
        f'[hosts.gpu1]\naddress = "127.0.0.1"\ninstances = [{{ port = {backend} }}]\n[gateway]\ntransport = "direct"\n'
        f'listen = "127.0.0.1:{front}"\ntls_cert = "{cert}"\ntls_key = "{key}"\n'
        f'[gateway.keys.cli]\nsha256 = "{digest_of(KEY.encode())}"\n'
    )
    environ = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    real = [str(OLLAMA), "serve"]
    served = environ | {"OLLAMA_HOST": f"127.0.0.1:{backend}", "OLLAMA_MODELS": str(tmp_path / "models")}
    gateway = [sys.executable, "-m", "olladist", "-i", str(inventory), "proxy"]
    with running(real, served, "Listening on"), running(gateway, environ, "listening on"):
        address = f"https://localhost:{front}"
        listed = ollama(f"{address}/key/{KEY}", tmp_path, "list")
        changed = ollama(f"{address}/key/{KEY}", tmp_path, "rm", "nothing")
        refused = ollama(address, tmp_path, "list")
        wrong = ollama(f"{address}/key/{KEY}x", tmp_path, "list")

    assert (listed.returncode, listed.stdout.split()) == (0, ["NAME", "ID", "SIZE", "MODIFIED"])
    assert "the key 'cli' may not change models" in changed.stderr
    assert (refused.returncode, wrong.returncode) == (1, 1)
    assert "an API key is needed" in refused.stderr
    assert "this API key is not known" in wrong.stderr
