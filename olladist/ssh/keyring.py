"""The operator's keys: in files and in agents, each read once however many hosts there are."""

import asyncio
import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from olladist.ssh.config import Target
from olladist.ssh.hostkeys import fingerprint
from olladist.ssh.prompts import Prompts

_TRIES = 3  # for a passphrase


@dataclass(frozen=True, slots=True)
class Identity:
    """One key to show to a host: `path` alone is a private key file, `held` one that an agent holds."""

    label: str
    path: Path | None = None
    held: asyncssh.SSHAgentKeyPair | None = None
    agent: str | None = None
    certificates: tuple[Path, ...] = ()


class Keyring:
    def __init__(self, prompts: Prompts) -> None:
        self._prompts = prompts
        self._files: dict[Path, asyncssh.SSHKey | None] = {}  # None: it wants a passphrase
        self._publics: dict[Path, bytes | None] = {}
        self._agents: dict[str, asyncio.Future[list[asyncssh.SSHAgentKeyPair]]] = {}
        self._clients: list[asyncssh.SSHAgentClient] = []
        self._asking = asyncio.Lock()
        self._unlocked: set[Path] = set()
        self._declined: set[Path] = set()

    async def identities(self, target: Target) -> list[Identity]:
        """What to try, in order. As ssh does, but that keys somebody named go before the others of an agent.

        (An agent with more than five keys would else use up sshd's MaxAuthTries before the right one comes.)
        """
        held = {pair.public_data: pair for pair in await self._held(target.agent)}
        named: list[Identity] = []
        for path in target.identities:
            certificates = tuple(dict.fromkeys((*target.certificates, _certificate_of(path))))
            certificates = tuple(path for path in certificates if path.exists())
            if pair := held.pop(self._public(path) or b"", None):
                named.append(Identity(str(path), None, pair, target.agent, certificates))
            elif path.exists() and path.suffix != ".pub":
                named.append(Identity(str(path), path, certificates=certificates))
        if target.identities_only:
            return named
        others = [Identity(_describe(pair), None, pair, target.agent) for pair in held.values()]
        return [*named, *others] if target.identities_declared else [*others, *named]

    def pairs(self, identity: Identity) -> Sequence[asyncssh.SSHKeyPair]:
        """What asyncssh signs with: none for a locked file. ValueError or OSError for a file that is no key."""
        certificates = [asyncssh.read_certificate(path) for path in identity.certificates]
        if identity.held:
            # A copy each time: asyncssh writes into it the algorithm which this one server wants.
            pairs = [copy.copy(identity.held)]
            for certificate in certificates:
                if certificate.key.public_data == identity.held.key_public_data:
                    pairs.insert(0, copy.copy(identity.held))
                    pairs[0].set_certificate(certificate)
            return pairs
        key = self._key(identity.path) if identity.path else None
        if key is None:
            return []
        matching = [certificate for certificate in certificates if certificate.key.public_data == key.public_data]
        return asyncssh.load_keypairs([(key, matching[0])] if matching else [key])

    def locked(self, identity: Identity) -> bool:
        return identity.path is not None and self._files.get(identity.path, identity) is None

    def was_unlocked(self, identity: Identity) -> bool:
        """Whether only we can use this key, because a person has told us its passphrase."""
        return identity.path in self._unlocked

    async def unlock(self, host: str, identity: Identity) -> bool:
        """Asks for the passphrase of a key file, once for all hosts."""
        path = identity.path
        if path is None:
            return False
        async with self._asking:
            for _ in range(_TRIES):
                if not self.locked(identity):
                    return True
                passphrase = None
                if path not in self._declined:
                    passphrase = await self._prompts.secret(host, f"passphrase of {path}")
                if not passphrase:
                    self._declined.add(path)
                    return False
                try:
                    # In a thread: bcrypt is slow on purpose.
                    self._files[path] = await asyncio.to_thread(_read, path, passphrase)
                except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
                    continue
                self._unlocked.add(path)
        return not self.locked(identity)

    async def close(self) -> None:
        for client in self._clients:
            client.close()
            await client.wait_closed()

    def _key(self, path: Path) -> asyncssh.SSHKey | None:
        if path not in self._files:
            try:
                self._files[path] = _read(path, None)
            except asyncssh.KeyImportError as error:
                if not str(error).startswith("Passphrase must be specified"):
                    raise
                self._files[path] = None
        return self._files[path]

    def _public(self, path: Path) -> bytes | None:
        """The public key that belongs to a private key file, without its passphrase."""
        if path not in self._publics:
            self._publics[path] = None
            for candidate in (path, path.with_name(path.name + ".pub")):
                try:
                    self._publics[path] = asyncssh.read_public_key(candidate).public_data
                except (OSError, asyncssh.KeyImportError):
                    continue
                break
        return self._publics[path]

    async def _held(self, agent: str | None) -> list[asyncssh.SSHAgentKeyPair]:
        """The keys of an agent, asked once; none where it does not answer, as ssh goes on without it."""
        if not agent:
            return []
        if agent not in self._agents:
            self._agents[agent] = asyncio.ensure_future(self._ask(agent))
        return await asyncio.shield(self._agents[agent])

    async def _ask(self, agent: str) -> list[asyncssh.SSHAgentKeyPair]:
        client = asyncssh.SSHAgentClient(agent)
        try:
            keys = await client.get_keys()
        except (OSError, ValueError):
            return []
        self._clients.append(client)
        return [key for key in keys if isinstance(key, asyncssh.SSHAgentKeyPair)]


def _read(path: Path, passphrase: str | None) -> asyncssh.SSHKey:
    # The check of an RSA key takes 110 ms of CPU (measured, 3072 bits) and would only find that our own file is bad.
    return asyncssh.read_private_key(path, passphrase, unsafe_skip_rsa_key_validation=True)


def _certificate_of(path: Path) -> Path:
    return path.with_name(path.name + "-cert.pub")


def _describe(pair: asyncssh.SSHKeyPair) -> str:
    comment = (pair.get_comment_bytes() or b"").decode(errors="replace")
    return f"{comment or fingerprint(pair.public_data)} of the agent"
