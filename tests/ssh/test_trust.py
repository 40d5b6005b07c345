from pathlib import Path

import asyncssh
import pytest

from olladist.errors import HostKeyRefused
from olladist.inventory.model import HostKeys
from olladist.ssh.config import Target
from olladist.ssh.hostkeys import Verdict
from olladist.ssh.prompts import NO_PROMPTS
from olladist.ssh.trust import Trust

KEY = asyncssh.generate_private_key("ssh-ed25519").convert_to_public()
ECDSA = asyncssh.generate_private_key("ecdsa-sha2-nistp256").convert_to_public()


def known(path: Path, *lines: str) -> Target:
    path.write_text("".join(f"{line}\n" for line in lines))
    return Target("gpu1", 22, "ops", known_hosts=(path,))


def text(key: asyncssh.SSHKey) -> str:
    return key.export_public_key().decode().strip()


def trust(tmp_path: Path, *, accept_new: bool = False) -> Trust:
    return Trust(tmp_path / "own", NO_PROMPTS, accept_new=accept_new)


def test_known_types_are_asked_for_first(tmp_path: Path) -> None:
    """A host with two keys shows the one that we can compare; certificates are wanted only from a known authority."""
    path = tmp_path / "known_hosts"
    plain = trust(tmp_path).of(known(path, f"gpu1 {text(ECDSA)}")).algorithms()
    assert plain[:2] == ["ecdsa-sha2-nistp256", "ssh-ed25519"]
    assert not [name for name in plain if "cert" in name]

    certified = trust(tmp_path).of(known(path, f"@cert-authority * {text(KEY)}")).algorithms()
    assert certified[0] == "ssh-ed25519-cert-v01@openssh.com"
    assert "ssh-ed25519" in certified


def test_asyncssh_trusts_no_plain_key_by_itself(tmp_path: Path) -> None:
    """Every plain key comes before our judge; authorities and revoked keys it has to know."""
    path = tmp_path / "known_hosts"
    target = known(path, f"gpu1 {text(KEY)}", f"@cert-authority gpu* {text(ECDSA)}", f"@revoked * {text(ECDSA)}")
    keys = trust(tmp_path).of(target).for_asyncssh("gpu1", "", None)

    assert keys[0] == []
    assert keys[1] == [ECDSA]
    assert ECDSA in keys[2]
    assert len(keys) == 7


async def test_two_that_accept_different_keys_do_not_both_win(tmp_path: Path) -> None:
    """Between the look and the answer another process has taken another key: then it has changed."""
    ours = trust(tmp_path, accept_new=True)
    target = Target("gpu1", 22, "ops")
    first, second = ours.of(target).judge(KEY), ours.of(target).judge(ECDSA)
    assert first.judgement.verdict is second.judgement.verdict is Verdict.UNKNOWN

    await ours.settle("gpu1", HostKeys.ASK, target, first)
    with pytest.raises(HostKeyRefused, match="has changed"):
        await ours.settle("gpu1", HostKeys.ASK, target, second)

    assert ours.of(target).judge(KEY).judgement.verdict is Verdict.KNOWN
