"""Real Ollamas on this machine, without containers, and a gateway in front of them."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from olladist.ollama.digests import digest_of
from olladist.sim import gguf
from olladist.sim.hosts import free_ports, listens
from tests.lab.conformance.servers import Server, environ, running
from tests.lab.conformance.wire import Request, ask
from tests.lab.machines import OLLAMA
from tests.lab.waiting import wait_until


@contextmanager
def ollama(directory: Path, settings: Mapping[str, str], sentences: Mapping[str, str]) -> Iterator[Server]:
    """With a model for each of `sentences`, which it says, whatever it is asked; `settings` are of its environment."""
    (port,) = free_ports(1)
    directory.mkdir(exist_ok=True)
    env = {**environ(directory), **settings, "OLLAMA_HOST": f"127.0.0.1:{port}"}
    with running([str(OLLAMA), "serve"], directory / "ollama.log", env) as process:
        wait_until(lambda: listens(port) or process.poll() is not None, "an Ollama that listens", 60)
        for name, sentence in sentences.items():
            path = directory / f"{name}.gguf"
            gguf.write(path, sentence)
            content = path.read_bytes()
            digest = digest_of(content)
            assert ask(port, Request("POST", f"/api/blobs/{digest}", content)).status == 201
            body = {"model": name, "files": {"m.gguf": digest}, "parameters": {"num_thread": 1}, "stream": False}
            assert ask(port, Request("POST", "/api/create", body)).status == 200
        yield Server(port)


@contextmanager
def gateway(directory: Path, behind: Sequence[Server], settings: Mapping[str, str]) -> Iterator[Server]:
    """One that knows the Ollamas as instances of one host, whose environment has these settings."""
    env = ", ".join(f"{name} = {value}" for name, value in settings.items())
    instances = ", ".join(f"{{ port = {server.port}, env = {{ {env} }} }}" for server in behind)
    text = f'[hosts.here]\nconnection = "local"\ninstances = [{instances}]\n'
    (directory / "inventory.toml").write_text(text)
    log = directory / "gateway.log"
    words = [sys.executable, "-m", "olladist", "-i", str(directory / "inventory.toml")]
    with running([*words, "proxy", "--listen", "127.0.0.1:0"], log, environ(directory)) as process:
        wait_until(
            lambda: "listening on" in log.read_text() or process.poll() is not None, "a gateway that listens", 60
        )
        assert process.poll() is None, log.read_text()
        port = int(log.read_text().partition("listening on ")[2].split()[0].rpartition(":")[2])
        wait_until(lambda: ask(port, Request("GET", "/readyz")).status == 200, "a node that is up")
        yield Server(port)
