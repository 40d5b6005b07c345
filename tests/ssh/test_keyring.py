import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from olladist.ssh.config import Target
from olladist.ssh.connections import Connections
from olladist.ssh.keyring import Identity, Keyring
from olladist.ssh.prompts import NO_PROMPTS

OTHERS = [asyncssh.generate_private_key("ssh-ed25519", f"other{n}") for n in range(3)]


@asynccontextmanager
async def keyring() -> AsyncIterator[Keyring]:
    ring = Keyring(NO_PROMPTS)
    try:
        yield ring
    finally:
        await ring.close()


def labels(identities: Sequence[Identity]) -> list[str]:
    return [identity.label for identity in identities]


def at(**more: Any) -> Target:
    return replace(Target("127.0.0.1", 22, "ops"), **more)


async def test_named_keys_go_before_the_agents_others(tmp_path: Path, identity: Path, agent: Any) -> None:
    """sshd counts tries: the key that somebody named must come while it still listens."""
    async with agent(*OTHERS) as running, keyring() as ring:
        named = at(identities=(identity,), identities_declared=True, agent=str(running.path))
        found = at(identities=(identity, tmp_path / "absent"), agent=str(running.path))

        held = [f"other{n} of the agent" for n in range(3)]
        assert labels(await ring.identities(named)) == [str(identity), *held]
        assert labels(await ring.identities(found)) == [*held, str(identity)]
        assert labels(await ring.identities(replace(named, identities_only=True))) == [str(identity)]
        assert running.asked == 1


async def test_a_key_that_the_agent_holds_is_signed_there(
    identity: Path, user_key: asyncssh.SSHKey, agent: Any
) -> None:
    """A locked file whose key is in the agent asks for no passphrase; its public half says which it is."""
    identity.write_bytes(user_key.export_private_key(passphrase="open", rounds=2, ignore_few_rounds=True))
    identity.with_name("id_ed25519.pub").write_bytes(user_key.export_public_key())
    async with agent(user_key, *OTHERS) as running, keyring() as ring:
        first, *rest = await ring.identities(
            at(identities=(identity,), identities_declared=True, agent=str(running.path))
        )

        assert first.held
        assert first.held.public_data == user_key.public_data
        assert len(rest) == 3


async def test_an_agent_that_is_not_there_is_passed_over(identity: Path, tmp_path: Path) -> None:
    """As ssh: a stale SSH_AUTH_SOCK is no error."""
    async with keyring() as ring:
        found = await ring.identities(at(identities=(identity,), agent=str(tmp_path / "gone")))

        assert labels(found) == [str(identity)]


async def test_logging_in_with_an_agent(
    sshd: Any, tmp_path: Path, user_key: asyncssh.SSHKey, agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many hosts log in with the agent's key over one connection to the agent."""
    async with agent(*OTHERS, user_key) as running:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(running.path))
        async with Connections(accept_new=True, state=tmp_path / "state") as connections:
            runners = await asyncio.gather(*(connections.runner(sshd.host(f"gpu{n}")) for n in range(4)))

            assert [await runner.check("echo in") for runner in runners] == ["in\n"] * 4
        assert running.asked == 1


async def test_a_certificate_goes_with_its_key(
    tmp_path: Path, identity: Path, user_key: asyncssh.SSHKey, agent: Any
) -> None:
    """KEY-cert.pub is used beside the key, and a CertificateFile with a key of the agent."""
    authority = asyncssh.generate_private_key("ssh-ed25519")
    certificate = authority.generate_user_certificate(user_key, "me", principals=["ops"])
    file = identity.with_name("id_ed25519-cert.pub")
    file.write_bytes(certificate.export_certificate())
    async with keyring() as ring:
        (from_file,) = await ring.identities(at(identities=(identity,)))
        assert [pair.has_cert for pair in ring.pairs(from_file)] == [True, False]

    identity.with_name("id_ed25519.pub").write_bytes(user_key.export_public_key())
    async with agent(user_key) as running, keyring() as ring:
        target = at(identities=(identity,), certificates=(file,), agent=str(running.path))
        (held,) = await ring.identities(target)
        assert held.held
        assert [pair.has_cert for pair in ring.pairs(held)] == [True, False]


async def test_a_public_key_file_alone_names_a_key_of_the_agent(
    tmp_path: Path, user_key: asyncssh.SSHKey, agent: Any
) -> None:
    """IdentityFile may be a .pub file: then the agent must hold its key, and nothing else is tried with it."""
    public = tmp_path / "token.pub"
    public.write_bytes(user_key.export_public_key())
    async with agent(user_key) as running, keyring() as ring:
        (held,) = await ring.identities(at(identities=(public,), identities_only=True, agent=str(running.path)))
        assert held.held
        assert await ring.identities(at(identities=(public,), identities_only=True)) == []
