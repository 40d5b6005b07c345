import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from olladist.ssh.config import Target
from olladist.ssh.connections import Connections
from olladist.ssh.keyring import Identity, Keyring
from olladist.ssh.login import Ending, Link
from olladist.ssh.openssh import NotForOpenSSH, OpenSSH
from olladist.ssh.prompts import NO_PROMPTS, Prompts

KEY = asyncssh.generate_private_key("ssh-ed25519")


def link(target: Target, *, via: Link | None = None, identity: Identity | None = None) -> Link:
    """A link as a login gives it, but for the connection, which OpenSSH does not use."""
    connection: Any = None
    return Link(connection, target, via, identity, KEY.convert_to_public(), Ending())


def files(words: Sequence[str]) -> tuple[Path, str, str]:
    config = Path(words[words.index("-F") + 1])
    text = config.read_text()
    known_hosts = text.split("UserKnownHostsFile ")[1].split("\n")[0].strip('"')
    return config, text, Path(known_hosts).read_text()


async def test_the_configuration_says_all_and_allows_nothing_else(tmp_path: Path) -> None:
    """Every hop with its verified key under its own alias, strict checking, and no file of the operator's."""
    key = tmp_path / "a key"
    openssh = OpenSSH(Keyring(NO_PROMPTS), "ssh")
    bastion = link(Target("bastion.example", 2222, "guard"))
    words = openssh.command(
        link(Target("198.51.100.11", 22, "ops", alias="x"), via=bastion, identity=Identity("k", key)), "-N"
    )
    config, text, known_hosts = files(words)

    assert words == ["ssh", "-F", str(config), "-T", "-N", "target"]
    assert [line.split()[:2] for line in known_hosts.splitlines()] == [
        ["host0", "ssh-ed25519"],
        ["host1", "ssh-ed25519"],
    ]
    hop, target, common = text.split("Host ")[1:]
    assert hop.startswith('hop0\n  HostName "bastion.example"\n  Port 2222\n  User "guard"\n  HostKeyAlias host0\n')
    assert target.startswith('target\n  HostName "198.51.100.11"\n  Port 22\n  User "ops"\n  HostKeyAlias host1\n')
    assert f'IdentityFile "{key}"' in target
    assert "ProxyJump hop0" in target
    assert "ProxyJump" not in hop
    for line in (
        "StrictHostKeyChecking yes",
        "BatchMode yes",
        "GlobalKnownHostsFile /dev/null",
        "IdentitiesOnly yes",
        "ControlMaster no",
        "ForwardAgent no",
    ):
        assert line in common
    assert stat.S_IMODE(config.parent.stat().st_mode) == 0o700

    await openssh.close()
    assert not config.parent.exists()


async def test_values_with_spaces_and_tokens_are_quoted(tmp_path: Path) -> None:
    """A percent sign starts no token, a space ends no value (`ssh -G` reads it back in the lab test)."""
    openssh = OpenSSH(Keyring(NO_PROMPTS), "ssh")
    target = Target("198.51.100.11", 2022, "ops", proxy_command="nc 'a b' 100%")
    _, text, _ = files(openssh.command(link(target, identity=Identity("k", tmp_path / "a %h key"))))

    assert f'IdentityFile "{tmp_path}/a %%h key"' in text
    assert "ProxyCommand nc 'a b' 100%%\n" in text
    await openssh.close()


async def test_an_agents_key_is_named_by_its_public_half(agent: Any) -> None:
    """The private key stays in the agent; ssh is told which one to ask it for, so that no other is tried."""
    async with agent(KEY) as running:
        keyring = Keyring(NO_PROMPTS)
        target = Target("198.51.100.11", 22, "ops", agent=str(running.path))
        (identity,) = await keyring.identities(target)
        openssh = OpenSSH(keyring, "ssh")
        config, text, _ = files(openssh.command(link(target, identity=identity)))

        (public,) = config.parent.glob("*.pub")
        assert f'IdentityFile "{public}"' in text
        assert f'IdentityAgent "{running.path}"' in text
        assert public.read_text().split()[:2] == KEY.export_public_key().decode().split()[:2]
        await openssh.close()
        await keyring.close()


async def test_what_cannot_be_written_safely_is_left_to_asyncssh() -> None:
    """A value that could end its line or its quotes never gets into a configuration."""
    openssh = OpenSSH(Keyring(NO_PROMPTS), "ssh")
    good = Target("198.51.100.11", 22, "ops")
    for bad in (
        replace(good, user='ops"\nProxyCommand "evil'),
        replace(good, user="ops\nProxyCommand evil"),
        replace(good, address="a\\b"),
        replace(good, address="a;b"),
        replace(good, address="-oProxyCommand=evil"),
        replace(good, algorithms=(("Ciphers", "x\nProxyCommand evil"),)),
    ):
        with pytest.raises(NotForOpenSSH):
            openssh.command(link(bad))
    with pytest.raises(NotForOpenSSH, match="cannot be written"):
        openssh.command(link(good, identity=Identity("k", Path("/keys/${HOME}"))))
    await openssh.close()


async def test_the_same_way_writes_no_new_files(tmp_path: Path) -> None:
    """A tunnel to a host that comes and goes for weeks does not fill the directory."""
    openssh = OpenSSH(Keyring(NO_PROMPTS), "ssh")
    first = openssh.command(link(Target("198.51.100.11", 22, "ops"), identity=Identity("k", tmp_path / "key")))
    again = openssh.command(link(Target("198.51.100.11", 22, "ops"), identity=Identity("k", tmp_path / "key")))
    other = openssh.command(link(Target("198.51.100.12", 22, "ops"), identity=Identity("k", tmp_path / "key")))

    assert first == again != other
    assert len(list(files(first)[0].parent.iterdir())) == 3
    await openssh.close()


async def test_without_ssh_it_says_so() -> None:
    """No binary, no configuration."""
    with pytest.raises(NotForOpenSSH, match="no `ssh` on this machine"):
        OpenSSH(Keyring(NO_PROMPTS), "").command(link(Target("a", 22, "b")))


async def test_a_key_that_only_we_can_unlock_is_left_to_asyncssh(
    sshd: Any, tmp_path: Path, identity: Path, user_key: asyncssh.SSHKey
) -> None:
    """`ssh` would ask for the passphrase in the operator's terminal; so the copy goes through asyncssh."""

    async def secret(host: str, what: str) -> str:
        return "open"

    identity.write_bytes(user_key.export_private_key(passphrase="open", rounds=2, ignore_few_rounds=True))
    (tmp_path / "source").write_bytes(b"data")
    async with Connections(prompts=Prompts(secret=secret), accept_new=True, state=tmp_path / "state") as connections:
        runner = await connections.runner(sshd.host())
        await runner.put(tmp_path / "source", str(tmp_path / "target"))

        assert (tmp_path / "target").read_bytes() == b"data"
        with pytest.raises(NotForOpenSSH, match=r"only we were told|no `ssh`"):
            runner.ssh_command()  # type: ignore[attr-defined]  # a remote runner has it
