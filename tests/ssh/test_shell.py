import asyncio
from pathlib import Path
from typing import Any

from olladist.ssh.connections import Connections
from olladist.ssh.shell import SESSIONS


async def test_a_slot_is_free_only_when_its_command_has_ended(
    sshd: Any, connections: Connections, tmp_path: Path, until: Any
) -> None:
    """Cancelling does not open more sessions than sshd has: what is being ended still counts."""
    runner = await connections.runner(sshd.host())
    tasks = [
        asyncio.create_task(runner.run(f"trap '' TERM; echo >{tmp_path}/{n}; while :; do sleep 0.1; done"))
        for n in range(SESSIONS)
    ]
    await until(lambda: len([path for path in tmp_path.iterdir() if path.name.isdigit()]) == SESSIONS)
    for task in tasks:
        task.cancel()

    assert await runner.check("echo free") == "free\n"
    await asyncio.wait(tasks)
    assert sshd.most_sessions <= 10


async def test_sudo_is_decided_once(sshd: Any, connections: Connections) -> None:
    """Many commands that need root at once ask the host one time."""
    sshd.sudo()
    runner = await connections.runner(sshd.host())
    await asyncio.gather(*(runner.check("true", root=True) for _ in range(8)))

    assert (sshd.home / "sudo.log").read_text().count("sudo /bin/sh -c :\n") == 1
