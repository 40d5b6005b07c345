"""The guide about waiting, followed as it stands."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from tests.gateway.test_fallback_guide import kept
from tests.gateway.whole import whole

GUIDE = (Path(__file__).parents[2] / "docs/guides/waiting.md").read_text()
# Six words, two a second: of seven requests the last one waits for nine seconds, in which the guide looks who waits.
SLOWLY = "one two three four five six"


async def shell(folder: Path, commands: str) -> str:
    """What the commands print, as the operator who runs the gateway of this folder; all of them succeed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    home = {"HOME": str(folder), "XDG_STATE_HOME": str(folder / "state"), "PATH": path, "COLUMNS": "200"}
    process = await asyncio.create_subprocess_exec(
        *("sh", "-ec", commands),
        cwd=folder,
        env={**os.environ, **home},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, f"{commands}\n{said.decode()}"
    return said.decode().replace("\r", "")


@pytest.mark.timeout(150)  # twelve seconds of waiting, and commands that begin slowly where much else runs
async def test_following_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands succeed in order, and say what it says: who waits, as which number, and why."""
    monkeypatch.setenv("SIM_TOKENS_PER_SECOND", "2")
    said: list[str] = []
    async with whole(tmp_path) as gate:
        for server in (gate.gpu1, gate.gpu2):
            await server.hold("tiny", SLOWLY)
        for kind, block in re.findall(r"^```(sh[a-z ]*)\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL):
            if kind == "sh background":
                assert block == "olladist proxy\n"
                await gate.start(inventory='strategy = "adaptive"')
                await kept(gate)
            else:
                said.append(await shell(tmp_path, block.replace("127.0.0.1:11434", gate.url.removeprefix("http://"))))

    first, second = said
    assert re.search(r"^tiny: it would wait for a slot as number [2-7] of its model, ", first, re.MULTILINE)
    assert "NODE  " in first
    assert re.search(r"^waiting: [1-6] of at most 10000, the first for ", first, re.MULTILINE)
    assert re.search(r"^tiny:latest  [1-6] ", first, re.MULTILINE)
    positions = sorted(line.rpartition(" ")[2] for line in first.splitlines() if line.startswith("answer-"))
    assert positions[:4] == ["1", "2", "3", "4"]
    assert '"schema": "olladist.proxy.explain"' in second
    assert "tiny with num_ctx=8192: " in second


def test_every_verdict_has_a_remedy() -> None:
    """What the gateway says of hosts that do not take a request stands in the table of the guide."""
    for words in (
        "is being loaded for others",
        "would go here when",
        "not now: requests wait for",
        "cannot: ",
        "could not serve the model a moment ago",
        "others use the node too, or it has shown no more",
    ):
        assert words in GUIDE
        source = Path(__file__).parents[2] / "olladist/gateway/control/verdicts.py"
        assert words in source.read_text()
