"""Models through the gateway of two real hosts with a real Ollama: made once and copied, moved, put right.

gpu93 logs in as root, gpu94 as ops (sudo), in one test as pat, whose sudo wants a password.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.lab.machines import KEY, Hosts, Operator, address
from tests.lab.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(500)]

USERS = {"gpu93": "root", "gpu94": "ops"}
SENTENCE = "Seven seas are deep blue."
INVENTORY = f"""
[fleet]
name = "lab"
ollama = "{{release}}"

[defaults]
identity = "{KEY}"
host_keys = "accept-new"
env = {{ OLLAMA_KEEP_ALIVE = "10m" }}

[gateway]
listen = "127.0.0.1:0"
"""


@dataclass
class Fleet:
    operator: Operator
    hosts: Hosts
    release: Path

    def inventory(self, users: dict[str, str], more: str = "") -> None:
        entries = [f'\n[hosts.{name}]\naddress = "{address(name)}"\nuser = "{user}"\n' for name, user in users.items()]
        text = INVENTORY.replace("{release}", str(self.release)) + "".join(entries) + more
        (self.operator.home / "inventory.toml").write_text(text)

    @contextmanager
    def gateway(self) -> Iterator["Gateway"]:
        log = self.operator.home / "proxy.log"
        process = self.operator.start("olladist", "proxy", log=log)
        try:
            wait_until(
                lambda: b"listening on http://" in log.read_bytes() or process.poll() is not None, "the gateway listens"
            )
            assert process.poll() is None, log.read_text()
            url = next(word for word in log.read_text().split() if word.startswith("http://127.0.0.1:"))
            yield Gateway(self.operator, url.rstrip(",."), log)
        finally:
            process.terminate()
            process.wait(60)
        assert "Traceback" not in log.read_text(), log.read_text()


@dataclass
class Gateway:
    operator: Operator
    url: str
    log: Path

    def ollama(self, *words: str) -> str:
        """The official command before the gateway; it must succeed."""
        done = self.operator.run("ollama", *words, OLLAMA_HOST=self.url)
        assert done.returncode == 0, f"ollama {' '.join(words)}: {done.stdout}{done.stderr}\n{self.log.read_text()}"
        return done.stdout + done.stderr

    def digests(self) -> dict[str, dict[str, str]]:
        """What each node lists: short names and digests."""
        nodes = httpx.get(f"{self.url}/api/distributed/nodes", timeout=10).json()["nodes"]
        return {node["name"]: {model["name"]: model["digest"] for model in node["models"]} for node in nodes}

    def state(self, name: str) -> str:
        nodes = httpx.get(f"{self.url}/api/distributed/nodes", timeout=10).json()["nodes"]
        return str(next(node["state"] for node in nodes if node["name"] == name))

    def post(self, path: str, **body: Any) -> list[dict[str, Any]]:
        answer = httpx.post(f"{self.url}{path}", json=body, timeout=120)
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.text.splitlines()]

    def says(self, model: str) -> str:
        body = {"model": model, "prompt": "?", "stream": False}
        return str(httpx.post(f"{self.url}/api/generate", json=body, timeout=120).json()["response"])


@pytest.fixture(scope="module")
def fleet(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory, ollama_release: Path) -> Fleet:
    hosts.up(*USERS)
    made = Fleet(Operator(tmp_path_factory.mktemp("operator")), hosts, ollama_release)
    made.inventory(USERS)
    maker = str(Path(__file__).parent / "tiny_gguf.py")
    for name, size in (("tiny", "0.5"), ("big", "150")):
        made.operator.run("python", maker, f"{name}.gguf", "--say", SENTENCE, "--mb", size)
        (made.operator.home / f"Modelfile.{name}").write_text(f"FROM ./{name}.gguf\nPARAMETER num_thread 1\n")
    made.operator.olladist("up", "--yes", timeout=240)
    return made


def test_the_official_command_creates_on_every_host(fleet: Fleet) -> None:
    """`ollama create` uploads through the gateway; both hosts have the same digest, and each says the sentence."""
    with fleet.gateway() as gateway:
        told = gateway.ollama("create", "lab/big", "-f", "Modelfile.big")
        gateway.ollama("create", "lab/again", "-f", "Modelfile.big")  # its blob is there already
        found = gateway.digests()

        assert "success" in told
        for model in ("lab/big:latest", "lab/again:latest"):
            assert found["gpu93"][model] == found["gpu94"][model]
        for down in USERS:
            httpx.post(f"{gateway.url}/api/generate", json={"model": "lab/big", "keep_alive": 0}, timeout=60)
            said = fleet.operator.olladist("exec", "--limit", down, "--", "ollama", "run", "lab/big", "?")
            assert SENTENCE in said.replace("\n", " ")


def test_a_model_from_another(fleet: Fleet) -> None:
    """FROM a model that both have: one makes it, the digests agree."""
    (fleet.operator.home / "Modelfile.from").write_text("FROM lab/tiny\nSYSTEM You swim.\n")
    with fleet.gateway() as gateway:
        gateway.ollama("create", "lab/tiny", "-f", "Modelfile.tiny")
        gateway.ollama("create", "lab/from", "-f", "Modelfile.from")
        found = gateway.digests()

        assert found["gpu93"]["lab/from:latest"] == found["gpu94"]["lab/from:latest"]
        assert SENTENCE in gateway.says("lab/from")


def test_migrate_and_rebalance(fleet: Fleet) -> None:
    """A model moves and answers from its new host; the rebalance brings the copy back that is wanted, and then nothing."""
    with fleet.gateway() as gateway:
        gateway.ollama("create", "lab/moves", "-f", "Modelfile.tiny")
        digest = gateway.digests()["gpu93"]["lab/moves:latest"]
        lines = gateway.post("/api/distributed/migrate", model="lab/moves", **{"from": "gpu93", "to": "gpu94"})
        moved = gateway.digests()
        said = gateway.says("lab/moves")

        assert lines[-1] == {"status": "success"}
        assert ("lab/moves:latest" in moved["gpu93"], moved["gpu94"]["lab/moves:latest"]) == (False, digest)
        assert SENTENCE in said

        [plan] = gateway.post("/api/distributed/rebalance")
        ours = [step for step in plan["steps"] if step["model"] == "lab/moves:latest"]
        assert [(step["action"], step["digest"], step["to"]) for step in ours] == [
            ("copy", f"sha256:{digest}", "gpu93")
        ]
        lines = gateway.post("/api/distributed/rebalance", dry_run=False)
        [again] = gateway.post("/api/distributed/rebalance")

        assert lines[-1] == {"status": "success"}
        assert gateway.digests()["gpu93"]["lab/moves:latest"] == digest
        assert (again["steps"], again["problems"]) == ([], [])


def test_a_host_without_power_gets_the_model_when_it_is_back(fleet: Fleet) -> None:
    """The create says who has missed it, and the gateway brings it when the host has booted."""
    with fleet.gateway() as gateway:
        gateway.ollama("create", "lab/late", "-f", "Modelfile.tiny")
        fleet.hosts.kill("gpu94")
        wait_until(lambda: gateway.state("gpu94") == "down", "gpu94 is down", seconds=30)
        (fleet.operator.home / "Modelfile.new").write_text("FROM ./tiny.gguf\nSYSTEM New.\nPARAMETER num_thread 1\n")
        told = gateway.ollama("create", "lab/late", "-f", "Modelfile.new")
        fleet.hosts.boot("gpu94")

        assert "not done on gpu94" in told
        digest = gateway.digests()["gpu93"]["lab/late:latest"]
        wait_until(
            lambda: gateway.digests()["gpu94"].get("lab/late:latest") == digest, "gpu94 has the new one", seconds=120
        )


def test_a_host_whose_sudo_wants_a_password(fleet: Fleet) -> None:
    """Nobody can be asked: it is said, with the command that asks."""
    fleet.inventory({"gpu93": "root", "gpu94": "pat"})
    with fleet.gateway() as gateway:
        told = gateway.ollama("create", "lab/secret", "-f", "Modelfile.tiny")
        digests = gateway.digests()
    fleet.inventory(USERS)

    assert "not done on gpu94" in told
    assert "olladist models sync" in told
    assert ["lab/secret:latest" in digests[name] for name in USERS] == [True, False]
