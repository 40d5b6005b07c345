"""The getting-started guide, followed by a newcomer: its commands as they stand, on real hosts."""

import re
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.lab.machines import KEY, Hosts, Operator, address
from tests.lab.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

GUIDE = Path(__file__).parent.parent.parent / "docs/guides/getting-started.md"
SENTENCE = "The sky is blue because air scatters short waves most."


def blocks(markdown: str) -> list[tuple[str, str]]:
    """The shell blocks in order: ("sh" or "sh background", commands)."""
    return re.findall(r"^```(sh(?: background)?)\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL)


def prepare(operator: Operator, release: Path) -> None:
    """What a newcomer brings along: ssh works, and a GGUF file; and a release, since there is no internet here."""
    (operator.home / ".ssh").mkdir(mode=0o700)
    entries = [f"Host {name}\n  HostName {address(real)}\n  IdentityFile {KEY}\n" for name, real in NAMES.items()]
    (operator.home / ".ssh/config").write_text("".join(entries))
    (operator.home / "ollama-linux-amd64.tar.zst").symlink_to(release)
    maker = Path(__file__).parent / "tiny_gguf.py"
    operator.run("python", str(maker), "support.gguf", "--say", SENTENCE)


NAMES = {"gpu1": "gpu21", "gpu2": "gpu22"}


def test_a_newcomer_gets_from_two_machines_to_a_streamed_chat(
    hosts: Hosts, operator: Operator, ollama_release: Path
) -> None:
    """Every command of the guide succeeds in order, and the model's words come through the gateway."""
    hosts.up(*NAMES.values())
    prepare(operator, ollama_release)
    background: list[subprocess.Popen[bytes]] = []
    said = []
    try:
        for kind, commands in blocks(GUIDE.read_text()):
            if kind == "sh background":
                background.append(operator.start("sh", "-ec", f"exec {commands}", log=operator.home / "proxy.log"))
                wait_until(gateway_knows_the_model, "the gateway lists the model", seconds=30)
                continue
            done = operator.run("sh", "-ec", commands, timeout=200)
            assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
            said.append(done.stdout)
            if "olladist init" in commands:
                offline(operator.home / "inventory.toml")
    finally:
        for process in background:
            process.terminate()
            process.wait(30)

    assert said[3].strip() == "" or "nothing" in said[3].lower()
    chat = next(text for text in said if "acme/support:v1" in text and "sky" in text)
    assert SENTENCE in " ".join(chat.split())
    assert "FAILED" not in said[-1]


def gateway_knows_the_model() -> bool:
    try:
        return "acme/support:v1" in httpx.get("http://127.0.0.1:11434/api/tags", timeout=2).text
    except httpx.HTTPError:
        return False


def offline(inventory: Path) -> None:
    """What the guide's last section says to do without internet."""
    text = inventory.read_text()
    assert "\nollama = " in text
    inventory.write_text(re.sub(r"\nollama = .*", '\nollama = "./ollama-linux-amd64.tar.zst"', text, count=1))
