"""Real Ollama servers on the loopback: two behind a real gateway, and one with the same models that is asked directly."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from olladist.ollama.digests import digest_of
from olladist.sim import gguf
from olladist.sim.hosts import ThrowawayHosts, free_ports, listens
from tests.lab.conformance.rows import SENTENCE
from tests.lab.conformance.wire import Request, ask
from tests.lab.machines import OLLAMA
from tests.lab.waiting import wait_until

# What no test's Ollama takes from whoever runs the tests.
_CLEAN = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "OLLAMA_NOHISTORY": "1"}


@dataclass(frozen=True)
class Server:
    """Something that answers as an Ollama."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True)
class Side:
    """One side of a comparison as a client has it."""

    server: Server
    registry: str  # HOST:PORT of one that only this side uses
    home: Path  # of whoever runs the client
    names: dict[str, str]

    @property
    def environ(self) -> dict[str, str]:
        return {**environ(self.home), "OLLAMA_HOST": self.server.url}


@dataclass(frozen=True)
class Pair:
    """The same models twice: one Ollama, and a fleet of two behind a gateway."""

    direct: Server
    gateway: Server
    nodes: tuple[Server, ...]
    folder: Path  # of its own, for whatever a test needs
    names: dict[str, str]  # what is another text on each side, and what stands for it in every answer


def environ(home: Path) -> dict[str, str]:
    return {**_CLEAN, "HOME": str(home)}


@contextmanager
def ended(process: subprocess.Popen[bytes], seconds: float = 20) -> Iterator[None]:
    """Ends the process with the block, and waits until it has."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(seconds)


@contextmanager
def running(words: list[str], log: Path, env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(words, env=env, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    with ended(process):
        yield process


# A process of its own mounts: what it has at $HOME is another directory than what its neighbours have there.
_IN_ITS_PLACE = 'mount --bind "$0" "$HOME" && exec "$@"'


@contextmanager
def ollama(home: Path, port: int, place: Path) -> Iterator[Server]:
    """An Ollama whose home, and store below it, is `home`, which it sees as `place`.

    Ollama writes the path of its store into manifests: seen from the same place, the same models have the same digests.
    """
    home.mkdir(parents=True, exist_ok=True)
    place.mkdir(parents=True, exist_ok=True)
    log = home.parent / f"{home.name}.log"
    env = {**environ(place), "OLLAMA_HOST": f"127.0.0.1:{port}", "OLLAMA_NOPRUNE": "1"}
    # Nobody listens there: ollama.com and the registry are refused at once, network or not.
    env["HTTPS_PROXY"] = "http://127.0.0.1:9"
    words = ["unshare", "--mount", "sh", "-c", _IN_ITS_PLACE, str(home), str(OLLAMA), "serve"]
    with running(words, log, env) as process:
        wait_until(lambda: listens(port) or process.poll() is not None, "an Ollama that listens", 60)
        assert process.poll() is None, log.read_text()
        yield Server(port)


def store(home: Path) -> Path:
    return home / ".ollama/models"


def create_models(server: Server, folder: Path) -> None:
    """`sky`, which says its sentence whatever it is asked, and `sky2`, the same weights with a system prompt."""
    path = folder / "sky.gguf"
    gguf.write(path, SENTENCE)
    content = path.read_bytes()
    digest = digest_of(content)
    assert ask(server.port, Request("POST", f"/api/blobs/{digest}", content)).status == 201
    # Each of two cores would fight for both otherwise.
    sky = {"model": "sky", "files": {"sky.gguf": digest}, "parameters": {"num_thread": 1}, "stream": False}
    sky2 = {"model": "sky2", "from": "sky", "system": "You are <terse> & 'short'", "stream": False}
    for body in (sky, sky2):
        done = ask(server.port, Request("POST", "/api/create", body))
        assert done.status == 200, done


def _inventory(hosts: ThrowawayHosts) -> str:
    text = hosts.inventory(comment="Two throw-away hosts, each with a real Ollama.")
    for host in hosts.hosts.values():
        text = text.replace(f"port = {host.port}\n", f'port = {host.port}\nmodels_dir = "{store(host.home)}"\n')
    return text + '\n[gateway]\ntransport = "direct"\n'


@contextmanager
def gateway(folder: Path, hosts: ThrowawayHosts, nodes: int, *options: str) -> Iterator[Server]:
    """`olladist proxy` in front of the hosts; every one of them is up when this is entered."""
    folder.mkdir()
    inventory = folder / "inventory.toml"
    inventory.write_text(_inventory(hosts))
    log = folder / "gateway.log"
    words = [sys.executable, "-m", "olladist", "-i", str(inventory), "proxy", "--listen", "127.0.0.1:0", "--accept-new"]
    with running([*words, *options], log, environ(folder)) as process:

        def port() -> int:
            lines = [line for line in log.read_text().splitlines() if line.startswith("listening on ")]
            return int(lines[0].rpartition(":")[2]) if lines else 0

        wait_until(lambda: port() > 0 or process.poll() is not None, "a gateway that listens", 60)
        assert process.poll() is None, log.read_text()
        served = Server(port())
        wait_until(lambda: up(served) == nodes, "hosts that are up", 30)
        yield served


def up(server: Server) -> int:
    answer = ask(server.port, Request("GET", "/api/distributed/nodes"))
    return sum(node["state"] == "up" for node in json.loads(answer.body)["nodes"])


@contextmanager
def pair(folder: Path) -> Iterator[Pair]:
    """Everything of the above; modification times of the models are the same on all sides."""
    with ExitStack() as stack:
        (port,) = free_ports(1)
        place = folder / "place"
        direct = stack.enter_context(ollama(folder / "direct", port, place))
        create_models(direct, folder)
        # Models of one second are listed in any order.
        manifest = store(folder / "direct") / "manifests/registry.ollama.ai/library/sky/latest"
        os.utime(manifest, (manifest.stat().st_mtime - 60,) * 2)
        hosts = stack.enter_context(ThrowawayHosts(folder / "hosts", ("gpu1", "gpu2")))
        nodes: list[Server] = []
        for host in hosts.hosts.values():
            shutil.copytree(store(folder / "direct"), store(host.home))
            if nodes:  # one model is on the first host only
                (store(host.home) / "manifests/registry.ollama.ai/library/sky2/latest").unlink()
            nodes.append(stack.enter_context(ollama(host.home, host.instances[0], place)))
        served = stack.enter_context(gateway(folder / "gateway", hosts, len(nodes)))
        names = {f"127.0.0.1:{server.port}": "SERVER" for server in (direct, served)}
        yield Pair(direct, served, tuple(nodes), folder, names)


def unload(pair: Pair) -> None:
    """Takes every model out of memory, so that no test depends on the one before it."""
    servers = (pair.direct, *pair.nodes)
    for server in servers:
        for name in loaded(server):
            done = ask(server.port, Request("POST", "/api/generate", {"model": name, "keep_alive": 0}))
            assert done.status == 200, f"{name} was deleted while it was in memory, and stays there"
    wait_until(lambda: not any(loaded(server) for server in (*servers, pair.gateway)), "nothing to be in memory", 10)


def loaded(server: Server) -> list[str]:
    return [row["name"] for row in json.loads(ask(server.port, Request("GET", "/api/ps")).body)["models"]]
