"""The guides about the gateway, followed as they stand."""

import configparser
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.cli.conftest import MODEL, Fleet

GUIDES = Path(__file__).parent.parent.parent / "docs/guides"


def test_operating_the_gateway(fleet: Fleet) -> None:
    """Every command of the guide succeeds in order; after the second start the first gateway is gone, and at the end there is none."""
    # A folder of its own, so that no gateway of another test is meant.
    folder = fleet.person.home / "operating"
    folder.mkdir()
    listen = re.search(r'^listen = "(.*)"$', fleet.inventory, re.MULTILINE)
    assert listen
    text = fleet.inventory.partition("[hosts.here]")[0].replace('ollama = "./', 'ollama = "../')
    model = MODEL.replace('"tiny.gguf"', '"../tiny.gguf"')
    (folder / "inventory.toml").write_text(f'{text}{model}\n[gateway]\nlisten = "{listen[1]}"\n')
    guide = (GUIDES / "operate-the-gateway.md").read_text()
    blocks = re.findall(r"^```(sh(?: background)?)\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    background: list[subprocess.Popen[str]] = []
    said = ""
    try:
        for kind, commands in blocks:
            if kind == "sh background":
                background.append(
                    subprocess.Popen(
                        ["sh", "-ec", f"exec {commands}"], cwd=folder, env=fleet.person.environ(), text=True,
                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                    )
                )  # fmt: skip
                serving = background[-1].stderr
                assert serving
                assert any(line.startswith("listening on ") for line in serving)
                wait_until_all_are_up(f"http://{listen[1]}")
                continue
            done = subprocess.run(
                ["sh", "-ec", commands], cwd=folder, env=fleet.person.environ(), capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
            said += done.stdout + done.stderr
        assert [process.wait(20) for process in background] == [0, 0]
    finally:
        for process in background:
            if process.poll() is None:
                process.terminate()
            process.wait(30)
            if process.stderr:
                process.stderr.close()

    for words in (
        f"http://{listen[1]}: distributed",
        "acme/tiny:v1: it would go to gpu",
        "nothing has changed",
        "drained: gpu1",
        "gets work again: gpu1",
        "stopped ",
    ):
        assert words in said


def wait_until_all_are_up(url: str) -> None:
    """Tunnels are opened one after the other: a host that is not there yet holds no model."""
    deadline = time.monotonic() + 20
    while any(node["state"] != "up" for node in httpx.get(f"{url}/api/distributed/nodes").json()["nodes"]):
        assert time.monotonic() < deadline


def test_the_units_are_what_systemd_takes(tmp_path: Path) -> None:
    """Each has what the gateway needs to end in order; where systemd is, it finds nothing wrong with them."""
    guide = (GUIDES / "run-as-a-service.md").read_text()
    units = re.findall(r"^```ini\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    assert len(units) == 2
    for number, unit in enumerate(units):
        parsed = configparser.RawConfigParser(strict=False)
        parsed.read_string(unit)
        service = parsed["Service"]
        assert (service["Type"], service["KillMode"], service["ExecReload"]) == (
            "notify",
            "mixed",
            "kill -HUP $MAINPID",
        )
        assert int(service["TimeoutStopSec"]) > 60
        # It is another path on each machine; systemd wants a program that is there.
        program = f"{sys.executable} -m olladist"
        path = tmp_path / f"gateway{number}@a.service"
        path.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={program}", unit, flags=re.MULTILINE))
        if systemd := shutil.which("systemd-analyze"):
            done = subprocess.run(
                [systemd, "verify", "--man=no", str(path)], capture_output=True, text=True, check=False
            )
            about = [line for line in done.stderr.splitlines() if path.name in line]
            assert about == []
