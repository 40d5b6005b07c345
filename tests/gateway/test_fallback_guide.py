"""The guide about fallback, followed as it stands."""

import asyncio
import re
from pathlib import Path

from olladist.gateway import environment
from tests.gateway.whole import Whole, until, whole

GUIDE = (Path(__file__).parents[2] / "docs/guides/fallback.md").read_text()


async def shell(folder: Path, commands: str) -> str:
    """What the commands print; all of them succeed."""
    process = await asyncio.create_subprocess_exec(
        *("sh", "-ec", commands), cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, f"{commands}\n{said.decode()}"
    return said.decode()


async def test_following_the_guide(tmp_path: Path) -> None:
    """Its commands succeed in order, and print the header fields that it shows."""
    blocks = re.findall(r"^```(sh[a-z ]*|text)\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    shown: list[str] = []
    async with whole(tmp_path) as gate:
        for kind, block in blocks:
            commands = block.replace("127.0.0.1:11434", gate.url.removeprefix("http://"))
            match kind:
                case "sh background":
                    # The words after the exports are the gateway's; the harness starts it with the same variables.
                    exports = re.findall(r"^export ([A-Z_]+)=(.*)$", block, re.MULTILINE)
                    assert block.splitlines()[len(exports) :] == ["olladist proxy"]
                    token = (tmp_path / "admin-token").read_text().strip()
                    values = {"OLLAMA_ADMIN_TOKEN": token, "OLLAMA_LOCAL_ADDR": gate.local.url}
                    assert {name for name, _ in exports} == set(values)
                    await gate.start(values)
                    await kept(gate)
                case "text":
                    names = [line.partition(":")[0].lower() for line in block.splitlines()]
                    printed = dict(line.split(": ", 1) for line in shown[-1].lower().splitlines())
                    assert set(names) <= set(printed)
                    for line in block.lower().splitlines():
                        if line.startswith(("x-ollama-fallback", "x-ollama-mode")):
                            assert line in shown[-1].lower()
                case _:
                    if kind == "sh without hosts":
                        await gate.gpu1.kill()
                        await gate.gpu2.kill()
                        await gate.knows_down(gate.gpu1, gate.gpu2)
                    if kind == "sh without any":
                        await gate.local.kill()
                    shown.append((await shell(tmp_path, commands)).replace("\r", ""))
        assert '"mode":"standalone"' in "".join(shown)
        assert '"mode":"distributed"' in shown[-1] + shown[-2]


async def kept(gate: Whole) -> None:
    """The models of the hosts are known: a guide's reader is slower than a test."""

    async def known() -> bool:
        return bool((await gate.get("/api/tags"))["models"])

    await until(known, "the gateway knows its models")


def test_every_variable_is_explained() -> None:
    """Those that the gateway reads are those of the table, and those that the guide shows."""
    table = set(re.findall(r"^\| `(OLLAMA_[A-Z_]+)`", GUIDE, re.MULTILINE))
    read = {value for value in vars(environment).values() if isinstance(value, str) and value.startswith("OLLAMA_")}

    assert table == read
