"""Whether a host key is taken: the known hosts first, then the inventory's word, then a person's."""

import asyncio
import base64
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from olladist.errors import HostKeyRefused
from olladist.inventory.model import HostKeys
from olladist.ssh.config import Target
from olladist.ssh.hostkeys import (
    Judgement,
    KnownHosts,
    KnownHostsFiles,
    Verdict,
    authorities,
    judge,
    known_types,
    remember,
)
from olladist.ssh.prompts import Prompts
from olladist.ssh.words import words

# What we take, best first; the types that are known for a host go before the others.
_SIGNATURES = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}


@dataclass(frozen=True, slots=True)
class ShownKey:
    """The key that a host has shown, and what we thought of it."""

    key_type: str
    key: bytes
    fingerprint: str
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class KnownTarget:
    """What is known about the keys of one sshd."""

    target: Target
    known: list[KnownHosts]

    def judge(self, key: asyncssh.SSHKey) -> ShownKey:
        judgement = judge(self.known, self.target.name, key.public_data)
        return ShownKey(key.get_algorithm(), key.public_data, key.get_fingerprint(), judgement)

    def algorithms(self) -> list[str]:
        """Signature algorithms for asyncssh: certificates only where an authority is known for this host."""
        known = [
            name for key_type in known_types(self.known, self.target.name) for name in _SIGNATURES.get(key_type, ())
        ]
        plain = list(dict.fromkeys([*known, *(name for names in _SIGNATURES.values() for name in names)]))
        if not authorities(self.known, self.target.name):
            return plain
        return [f"{name}-cert-v01@openssh.com" for name in plain] + plain

    def for_asyncssh(self, host: str, addr: str, port: int | None) -> tuple[list[asyncssh.SSHKey], ...]:
        """No trusted key, so that every plain key comes before our own judge; authorities and revoked keys as they are."""
        named = [
            hosts.find(name) for hosts in self.known for name in (self.target.name.full, self.target.name.without_port)
        ]
        revoked = [entry for entries in named for entry in entries if entry.marker == "revoked"]
        chosen = (authorities(self.known, self.target.name), revoked)
        keys = (
            [asyncssh.import_public_key(_line(entry.key_type, entry.key)) for entry in entries] for entries in chosen
        )
        return ([], *keys, [], [], [], [])


class Trust:
    """The known hosts of a run, and what to do about a key that is in none of them."""

    def __init__(self, own: Path, prompts: Prompts, *, accept_new: bool) -> None:
        self._own = own
        self._prompts = prompts
        self._accept_new = accept_new
        self._files = KnownHostsFiles()

    def of(self, target: Target) -> KnownTarget:
        return KnownTarget(target, self._files.load((*target.known_hosts, self._own)))

    async def settle(self, host: str, policy: HostKeys, target: Target, shown: ShownKey) -> None:
        """Returns if the key is ours to take from now on (it is in our file then); HostKeyRefused if not."""
        during = f"checking the host key of {target.address}"
        if shown.judgement.verdict is not Verdict.UNKNOWN:
            raise _changed(host, during, target, shown)
        if not self._accept_new and policy is not HostKeys.ACCEPT_NEW:
            asked = policy is HostKeys.ASK
            address = target.name.full
            if not asked or not await self._prompts.accept_host_key(host, address, shown.key_type, shown.fingerprint):
                raise _unknown(host, during, target, shown, asked=asked)
        try:
            judgement = await asyncio.to_thread(remember, self._own, target.name.full, shown.key_type, shown.key)
        except OSError as error:
            cause = f"cannot write {self._own}: {error.strerror}"
            raise HostKeyRefused(
                host, during, cause, hint="make it writable: an accepted key must be remembered"
            ) from error
        if judgement.verdict is not Verdict.KNOWN:
            raise _changed(host, during, target, ShownKey(shown.key_type, shown.key, shown.fingerprint, judgement))


def _line(key_type: str, key: bytes) -> bytes:
    return f"{key_type} {base64.b64encode(key).decode()}".encode()


def _changed(host: str, during: str, target: Target, shown: ShownKey) -> HostKeyRefused:
    entry = shown.judgement.entry
    where = f"{entry.path}:{entry.line}" if entry else "known_hosts"
    path = entry.path if entry else "known_hosts"
    if shown.judgement.verdict is Verdict.REVOKED:
        cause = f"its {shown.key_type} key {shown.fingerprint} is revoked by {where}"
        return HostKeyRefused(host, during, cause, hint="nobody should use this key any more; give the host a new one")
    cause = f"its host key has changed: it now shows {shown.key_type} {shown.fingerprint}, and {where} has another"
    hint = (
        "somebody may be in between. If the host was set up anew, compare the fingerprint on its console "
        "(ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then: "
        + words("ssh-keygen", "-f", path, "-R", target.name.full)
    )
    return HostKeyRefused(host, during, cause, hint=hint)


def _unknown(host: str, during: str, target: Target, shown: ShownKey, *, asked: bool) -> HostKeyRefused:
    why = "was not accepted" if asked else 'is in no known_hosts file (host_keys = "strict")'
    cause = f"its {shown.key_type} key {shown.fingerprint} {why}"
    hint = (
        "compare the fingerprint on the host (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub); then answer yes, "
        f"or run with --accept-new, or `ssh {target}` once"
    )
    return HostKeyRefused(host, during, cause, hint=hint)
