import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.errors import SudoRefused
from olladist.inventory.model import Host
from olladist.ssh.connections import Connections
from olladist.ssh.prompts import Prompts
from olladist.ssh.sudo import command, parse_probe


class Secrets:
    """A person who answers with `answers`, one after the other, and then no more."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str]] = []

    async def __call__(self, host: str, what: str) -> str | None:
        self.asked.append((host, what))
        return self.answers.pop(0) if self.answers else None


def connecting(tmp_path: Path, secrets: Secrets) -> Connections:
    return Connections(prompts=Prompts(secret=secrets), accept_new=True, state=tmp_path / "state")


async def test_passwordless_sudo_is_used(sshd: Any, connections: Connections) -> None:
    """What needs root goes through sudo, what does not, does not; stdin is the command's."""
    sshd.sudo()
    runner = await connections.runner(sshd.host())

    assert await runner.sudo() == "passwordless"
    assert (await runner.run("echo $AS_ROOT; cat", root=True, stdin=b"in")).stdout == "yes\nin"
    assert await runner.check("echo $AS_ROOT") == "\n"


async def test_root_needs_no_sudo(start_sshd: Any, connections: Connections) -> None:
    """Who logs in as root is root, without a question to the host."""
    sshd = await start_sshd("gpu1")
    runner = await connections.runner(Host("gpu1", "127.0.0.1", port=sshd.port, user="root"))

    assert await runner.sudo() == "root"
    assert sshd.most_sessions == 0


async def test_a_password_is_asked_once_for_all_hosts(start_sshd: Any, tmp_path: Path, identity: Path) -> None:
    """Three hosts, three commands each, one question; what follows on stdin is the command's."""
    hosts = [await start_sshd(f"gpu{n}") for n in range(3)]
    for sshd in hosts:
        sshd.sudo(password="lab secret $x")
    secrets = Secrets("lab secret $x")
    async with connecting(tmp_path, secrets) as connections:
        runners = [await connections.runner(sshd.host(f"gpu{n}")) for n, sshd in enumerate(hosts)]
        done = await asyncio.gather(
            *(runner.run("echo $AS_ROOT; cat", root=True, stdin=b"in") for runner in runners for _ in range(3))
        )

        assert [each.stdout for each in done] == ["yes\nin"] * 9
        assert await runners[0].sudo() == "password"
    assert [what for _, what in secrets.asked] == ["sudo password of ops"]


async def test_the_password_is_in_no_command_line(sshd: Any, tmp_path: Path, identity: Path) -> None:
    """Neither sudo nor the command it runs sees it in its arguments, nor the command on its stdin."""
    sshd.sudo(password="secret")
    async with connecting(tmp_path, Secrets("secret")) as connections:
        runner = await connections.runner(sshd.host())
        words = await runner.check("tr '\\0' ' ' </proc/$$/cmdline; cat; env", root=True)

    assert "secret" not in words.replace("SUDO_PASSWORD=secret", "")
    assert "secret" not in (sshd.home / "sudo.log").read_text()


async def test_a_wrong_password_is_asked_again(sshd: Any, tmp_path: Path, identity: Path) -> None:
    """Three tries, as sudo gives; then the error has sudo's words and what to run on the host."""
    sshd.sudo(password="right")
    secrets = Secrets("wrong", "right")
    async with connecting(tmp_path, secrets) as connections:
        assert await (await connections.runner(sshd.host())).check("echo $AS_ROOT", root=True) == "yes\n"
    assert len(secrets.asked) == 2

    secrets = Secrets(*["wrong"] * 9)
    async with connecting(tmp_path, secrets) as connections:
        with pytest.raises(SudoRefused, match=r"ops cannot become root.*incorrect password") as caught:
            await (await connections.runner(sshd.host())).run("true", root=True)
    assert len(secrets.asked) == 3
    assert "echo 'ops ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/olladist" in caught.value.hint


async def test_nobody_to_ask_is_told_once(start_sshd: Any, tmp_path: Path, identity: Path) -> None:
    """Who gives no password is not asked for every host again."""
    hosts = [await start_sshd(f"gpu{n}") for n in range(3)]
    for sshd in hosts:
        sshd.sudo(password="secret")
    secrets = Secrets()
    async with connecting(tmp_path, secrets) as connections:
        for sshd in hosts:
            with pytest.raises(SudoRefused, match="asks for a password and none was given"):
                await (await connections.runner(sshd.host())).run("true", root=True)
    assert len(secrets.asked) == 1


async def test_a_host_with_another_password_is_told(start_sshd: Any, tmp_path: Path, identity: Path) -> None:
    """The password that other hosts take is not asked for again; the one host where it is wrong is named."""
    one, two = await start_sshd("gpu1"), await start_sshd("gpu2")
    one.sudo(password="secret")
    two.sudo(password="other")
    async with connecting(tmp_path, Secrets("secret")) as connections:
        await (await connections.runner(one.host())).check("true", root=True)
        with pytest.raises(SudoRefused, match=r"gpu2.*the sudo password of the other hosts is not taken here"):
            await (await connections.runner(two.host("gpu2"))).run("true", root=True)


async def test_who_may_not_is_told_at_once(sshd: Any, tmp_path: Path, identity: Path) -> None:
    """sudo's "not in the sudoers file" is no wrong password, so nobody is asked again."""
    sshd.sudo(password="x", denies="ops is not in the sudoers file.")
    secrets = Secrets("secret", "secret")
    async with connecting(tmp_path, secrets) as connections:
        with pytest.raises(SudoRefused, match="ops is not in the sudoers file"):
            await (await connections.runner(sshd.host())).run("true", root=True)
    assert len(secrets.asked) == 1


async def test_a_host_without_sudo_is_told(sshd: Any, connections: Connections) -> None:
    """The hint installs it, or offers the ways that need no root."""
    sshd.sudo()
    (sshd.home / "bin" / "sudo").unlink()
    sshd.env["PATH"] = str(sshd.home / "bin")
    runner = await connections.runner(sshd.host())

    assert await runner.sudo() == "none"
    with pytest.raises(SudoRefused, match="sudo is not installed") as caught:
        await runner.run("true", root=True)
    assert "apt-get install sudo" in caught.value.hint
    assert 'service = "user"' in caught.value.hint


async def test_sudo_that_wants_a_terminal_is_told(sshd: Any, connections: Connections) -> None:
    """A sudo that changes its mind after it was asked is explained as well; requiretty has a hint of its own."""
    sshd.sudo()
    runner = await connections.runner(sshd.host())
    await runner.sudo()
    sshd.env["SUDO_DENIES"] = "sudo: sorry, you must have a tty to run sudo"

    with pytest.raises(SudoRefused, match="must have a tty") as caught:
        await runner.run("true", root=True)
    assert "!requiretty" in caught.value.hint


async def test_what_sudo_started_is_ended_too(sshd: Any, tmp_path: Path, identity: Path, until: Any) -> None:
    """A timeout ends a command of root's, which our user may not signal."""
    sshd.sudo(password="secret")
    file = tmp_path / "pid"
    async with connecting(tmp_path, Secrets("secret")) as connections:
        runner = await connections.runner(sshd.host())
        task = asyncio.create_task(runner.run(f"echo $$ >{file}; exec sleep 600", root=True))
        await until(lambda: file.exists() and file.read_text())
        task.cancel()
        await asyncio.wait({task})

    assert not Path(f"/proc/{file.read_text().strip()}").exists()
    assert (sshd.home / "sudo.log").read_text().count("kill -TERM") == 1


async def test_put_as_root_asks_for_the_password_on_stdin(sshd: Any, tmp_path: Path, identity: Path) -> None:
    """The password line goes before the file, and not into it, over every path there is."""
    sshd.sudo(password="secret")
    (tmp_path / "source").write_bytes(b"data" * 300_000)
    for openssh in ("", None):
        async with Connections(
            prompts=Prompts(secret=Secrets("secret")), accept_new=True, state=tmp_path / "state", openssh=openssh
        ) as connections:
            target = tmp_path / f"target-{openssh}"
            await (await connections.runner(sshd.host())).put(tmp_path / "source", str(target), root=True)

            assert target.read_bytes() == b"data" * 300_000


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("root root\n", ("root", "root")),
        ("passwordless ops\n", ("passwordless", "ops")),
        ("password pat", ("password", "pat")),
        ("", ("none", "the user")),
    ],
)
def test_the_probe_is_read(text: str, answer: tuple[str, str]) -> None:
    """Mode and user; no answer is no sudo."""
    assert parse_probe(text) == answer


@given(st.text())
def test_any_answer_is_a_mode(text: str) -> None:
    """Whatever a host answers, it is one of the four modes."""
    assert parse_probe(text)[0] in ("root", "passwordless", "password", "none")


def test_the_script_is_the_last_word() -> None:
    """Nothing that a script holds is read by sudo."""
    assert command("-n", "passwordless")[-4:] == ("--", "/bin/sh", "-c", "-n")
    assert command("x", None) == command("x", "root") == ("/bin/sh", "-c", "x")
