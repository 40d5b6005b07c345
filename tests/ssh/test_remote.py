import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from olladist.errors import CommandFailed, ConnectionLost, HostError
from olladist.ssh.connections import Connections


async def test_a_host_that_goes_away_in_the_middle_is_lost(sshd: Any, connections: Connections, until: Any) -> None:
    """A running command, a stream of lines and the next command all say so, and what to do."""
    runner = await connections.runner(sshd.host())
    lines = runner.lines("echo first; exec sleep 600")
    assert await anext(lines) == b"first"
    task = asyncio.create_task(runner.run("sleep 600", during="installing"))
    await until(lambda: sshd.sessions == 2)

    await sshd.stop()

    with pytest.raises(ConnectionLost, match=r"gpu1: the connection was lost.*\(while installing\)") as caught:
        await task
    assert "run this again" in caught.value.hint
    with pytest.raises(ConnectionLost):
        await anext(lines)
    with pytest.raises(ConnectionLost):
        await runner.run("true")
    with pytest.raises(ConnectionLost):
        async with runner.reach(11434):
            raise AssertionError
    await runner.close()


@pytest.mark.parametrize("openssh", ["", None])
async def test_a_copy_that_is_cut_keeps_what_arrived(
    sshd: Any, tmp_path: Path, identity: Path, openssh: str | None, until: Any
) -> None:
    """ConnectionLost, and the first bytes of the file are there for the next try to go on."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(200_000_000))
    async with Connections(accept_new=True, state=tmp_path / "state", openssh=openssh) as connections:
        runner = await connections.runner(sshd.host())
        copy = asyncio.create_task(runner.put(source, str(target)))
        await until(lambda: target.exists() and target.stat().st_size > 1_000_000)
        await sshd.stop()
        with pytest.raises(ConnectionLost):
            await copy

        await until(lambda: sshd.sessions == 0)
        await sshd.start()
        arrived = target.stat().st_size
        assert 1_000_000 < arrived < 200_000_000
        await (await connections.runner(sshd.host())).put(source, str(target), offset=arrived)
    assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("openssh", ["", None])
async def test_a_copy_that_is_cancelled_ends_on_the_host(
    sshd: Any, tmp_path: Path, identity: Path, openssh: str | None, until: Any
) -> None:
    """Nothing goes on after the cancel: no process here, no command there."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(200_000_000))
    async with Connections(accept_new=True, state=tmp_path / "state", openssh=openssh) as connections:
        runner = await connections.runner(sshd.host())
        copy = asyncio.create_task(runner.put(source, str(target)))
        await until(lambda: target.exists() and target.stat().st_size > 1_000_000)
        copy.cancel()
        await asyncio.wait({copy})

        assert copy.cancelled()
        await until(lambda: sshd.sessions == 0)
        assert target.stat().st_size < 200_000_000
        assert await runner.check("echo free") == "free\n"


async def test_an_ssh_that_does_not_get_in_is_not_used(sshd: Any, tmp_path: Path, identity: Path) -> None:
    """A broken `ssh` program only makes the copy slower."""
    broken = tmp_path / "ssh"
    broken.write_text("#!/bin/sh\necho 'Permission denied (publickey).' >&2\nexit 255\n")
    broken.chmod(0o755)
    (tmp_path / "source").write_bytes(b"data")
    async with Connections(accept_new=True, state=tmp_path / "state", openssh=str(broken)) as connections:
        runner = await connections.runner(sshd.host())
        for _ in range(2):
            await runner.put(tmp_path / "source", str(tmp_path / "target"))

        assert (tmp_path / "target").read_bytes() == b"datadata"


async def test_a_program_that_is_gone_is_not_used(sshd: Any, tmp_path: Path, identity: Path) -> None:
    """The same for one that cannot be started at all."""
    (tmp_path / "source").write_bytes(b"data")
    async with Connections(accept_new=True, state=tmp_path / "state", openssh="/no/such/ssh") as connections:
        await (await connections.runner(sshd.host())).put(tmp_path / "source", str(tmp_path / "target"))

    assert (tmp_path / "target").read_bytes() == b"data"


async def test_a_login_shell_that_runs_nothing_is_told(sshd: Any, connections: Connections, tmp_path: Path) -> None:
    """What nologin says is in the error, and that it is the login shell."""
    nologin = tmp_path / "nologin"
    nologin.write_text("#!/bin/sh\necho 'This account is currently not available.'\nexit 1\n")
    nologin.chmod(0o755)
    sshd.shell = str(nologin)
    with pytest.raises(CommandFailed, match="not available") as caught:
        await (await connections.runner(sshd.host())).run("true")

    assert "login shell" in caught.value.hint


async def test_noise_of_a_login_shell_is_left_out(sshd: Any, connections: Connections, tmp_path: Path) -> None:
    """A start file that prints does not get into what a command says."""
    noisy = tmp_path / "noisy"
    noisy.write_text("#!/bin/sh\necho welcome; echo 'no newline at the end' | tr -d '\\n'\nexec /bin/sh \"$@\"\n")
    noisy.chmod(0o755)
    sshd.shell = str(noisy)
    runner = await connections.runner(sshd.host())

    assert await runner.check("echo mine") == "mine\n"
    assert [line async for line in runner.lines("echo a; echo b")] == [b"a", b"b"]


async def test_a_host_that_forwards_nothing_is_told(sshd: Any, connections: Connections) -> None:
    """Not by a client whose connection ends, but before it, with the setting that sshd needs."""
    sshd.forwards = False
    runner = await connections.runner(sshd.host())
    with pytest.raises(HostError, match="sshd forwards nothing") as caught:
        async with runner.reach(11434):
            raise AssertionError
    assert "AllowTcpForwarding" in caught.value.hint


async def test_a_host_that_does_not_start_a_command_in_time_is_told(
    sshd: Any, connections: Connections, until: Any
) -> None:
    """The timeout also counts while the host has not even opened the session; the runner does not hang on it."""
    runner = await connections.runner(sshd.host())
    await runner.check("true")
    for connection in sshd.connections:
        connection._transport.pause_reading()

    with pytest.raises(ConnectionLost, match=r"no end after 0.2 s"):
        await runner.run("true", timeout=0.2)

    for connection in sshd.connections:
        connection._transport.resume_reading()
    assert await runner.check("echo again") == "again\n"


async def test_sessions_that_sshd_still_counts_are_asked_for_again(sshd: Any, connections: Connections) -> None:
    """With MaxSessions 2, ten commands at once all run: what is refused has not begun, and comes again."""
    sshd.sessions_max = 2
    runner = await connections.runner(sshd.host())
    done = await asyncio.gather(*(runner.check(f"echo {n}") for n in range(10)))

    assert done == [f"{n}\n" for n in range(10)]
    assert sshd.refused_sessions > 0
    assert sshd.most_sessions <= 2


async def test_an_sshd_that_opens_no_session_is_told(sshd: Any, connections: Connections) -> None:
    """MaxSessions 0 allows tunnels only; the setting is named."""
    sshd.sessions_max = 0
    runner = await connections.runner(sshd.host())
    with pytest.raises(ConnectionLost, match="opens no session") as caught:
        await runner.run("true")

    assert "MaxSessions" in caught.value.hint
