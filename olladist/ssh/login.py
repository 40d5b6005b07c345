"""One login to one sshd: key exchange, host key, keys of ours; every failure in words that help."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import asyncssh
from asyncssh.encryption import get_encryption_algs
from asyncssh.kex import get_kex_algs
from asyncssh.mac import get_mac_algs
from asyncssh.public_key import get_public_key_algs

from olladist.errors import AuthRefused, ConnectionLost, HostError, HostKeyRefused, Unreachable
from olladist.inventory.model import HostKeys
from olladist.ssh.config import Target
from olladist.ssh.dial import TryAgain, dial
from olladist.ssh.hostkeys import SSH_PORT
from olladist.ssh.keyring import Identity, Keyring
from olladist.ssh.trust import KnownTarget, ShownKey, Trust
from olladist.ssh.words import words

# The hybrid exchange costs 4 % more CPU than Curve25519 alone, and what is recorded today (a sudo password) stays secret
# when there are quantum computers. AES-GCM costs the least of the ciphers. Figures: docs/concepts/ssh.md.
_KEX = (
    "mlkem768x25519-sha256",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group14-sha256",
)
_CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
)

KEEPALIVE_INTERVAL, KEEPALIVE_COUNT = 15, 3  # a dead peer is noticed after 15 s * (3 + 1)


@dataclass(slots=True)
class Ending:
    """Why a connection has ended, "" while it is open or if it was we who closed it."""

    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """A connection that is logged in, and what another ssh needs to know to come the same way."""

    connection: asyncssh.SSHClientConnection
    target: Target
    via: "Link | None"
    identity: Identity | None
    host_key: asyncssh.SSHKey | None
    ending: "Ending"

    def alive(self) -> bool:
        return not self.connection.is_closed()

    async def close(self) -> None:
        """Closes it without waiting for a peer that does not answer any more."""
        self.connection.close()
        try:
            async with asyncio.timeout(2):
                await self.connection.wait_closed()
        except TimeoutError:
            self.connection.abort()


class _Client(asyncssh.SSHClient):
    """Answers what asyncssh asks during a login, and keeps what is needed to explain its end."""

    def __init__(self, known: KnownTarget, keyring: Keyring, identities: Sequence[Identity]) -> None:
        self.known = known
        self._keyring = keyring
        self._left = list(identities)
        self.shown: ShownKey | None = None
        self.tried: list[Identity] = []
        self.locked: list[Identity] = []
        self.unusable: list[str] = []
        self.connected = False
        self.authenticating = False
        self.ending = Ending()
        self.deadline: asyncio.Timeout | None = None
        self.login_timeout = 0.0

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        """The way to the sshd is open: what comes now is the login, with a time of its own."""
        self.connected = True
        if self.deadline:
            self.deadline.reschedule(asyncio.get_running_loop().time() + self.login_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ending.reason = str(exc or "")

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.shown = self.known.judge(key)
        return self.shown.judgement.verdict == "known"

    def validate_host_ca_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Called only for an authority that no @cert-authority line names."""
        return False

    def begin_auth(self, username: str) -> None:
        self.authenticating = True

    def public_key_auth_requested(self) -> Sequence[asyncssh.SSHKeyPair] | None:
        """The next key; files are read only when their turn comes."""
        while self._left:
            identity = self._left.pop(0)
            try:
                pairs = self._keyring.pairs(identity)
            except (OSError, ValueError) as error:
                self.unusable.append(f"{identity.label} ({error})")
                continue
            if pairs:
                self.tried.append(identity)
                return pairs
            self.locked.append(identity)
        return None


class Login:
    """What all logins of a run share."""

    def __init__(self, trust: Trust, keyring: Keyring, *, connect_timeout: float | None, login_timeout: float) -> None:
        self._trust = trust
        self._keyring = keyring
        self._connect_timeout = connect_timeout
        self._login_timeout = login_timeout

    async def open(self, host: str, policy: HostKeys, target: Target, via: Link | None) -> Link:
        """Logs in; asks about an unknown host key and for the passphrase of a key, if it comes to that.

        TryAgain where sshd dropped us before it knew who we are; other HostErrors for what will not be better soon.
        """
        identities = await self._keyring.identities(target)
        for _ in range(3):  # once; again with a host key just accepted; again with keys just unlocked
            client = _Client(self._trust.of(target), self._keyring, identities)
            try:
                return await self._attempt(host, target, via, client)
            except asyncssh.HostKeyNotVerifiable as error:
                if client.shown is None:  # a certificate: asyncssh has judged it by @cert-authority and @revoked
                    raise _certificate(host, target, error) from error
                await self._trust.settle(host, policy, target, client.shown)
            except asyncssh.PermissionDenied as error:
                unlocked = [each for each in client.locked if await self._keyring.unlock(host, each)]
                if not unlocked:
                    raise _refused(host, target, client) from error
                identities = unlocked
        raise _refused(host, target, client)

    async def _attempt(self, host: str, target: Target, via: Link | None, client: _Client) -> Link:
        """One try. Leaves HostKeyNotVerifiable and PermissionDenied to the caller, who may have a way out."""
        during = f"connecting to {target}" + (f" through {via.target}" if via else "")
        timeout = self._connect_timeout or target.connect_timeout or 10.0
        try:
            options = _options(target, client)
        except ValueError as error:
            raise Unreachable(host, during, str(error), hint="correct the user, or the ssh configuration") from error
        sock = None
        if via is None and target.proxy_command is None:
            sock = await dial(host, during, target.address, target.port, timeout)
        try:
            async with asyncio.timeout(timeout) as client.deadline:
                client.login_timeout = self._login_timeout
                connection = await asyncssh.connect(
                    target.address,
                    target.port,
                    sock=sock,
                    tunnel=via.connection if via else None,
                    config=None,
                    options=options,
                )
        except (asyncssh.HostKeyNotVerifiable, asyncssh.PermissionDenied):
            raise
        except TimeoutError as error:
            raise _too_slow(host, during, client, timeout if not client.connected else self._login_timeout) from error
        except (asyncssh.Error, OSError, ValueError) as error:
            raise _failed(host, during, target, client, error) from error
        identity = client.tried[-1] if client.tried else None
        return Link(connection, target, via, identity, connection.get_server_host_key(), client.ending)


def _options(target: Target, client: _Client) -> asyncssh.SSHClientConnectionOptions:
    """No configuration file is read here, no key of its own looked for: what counts is in `target` and `client`."""
    asked = dict(target.algorithms)
    return asyncssh.SSHClientConnectionOptions(
        config=None,
        host=target.address,
        port=target.port,
        username=target.user,
        client_factory=lambda: client,
        known_hosts=client.known.for_asyncssh,
        host_key_alias=target.alias,
        server_host_key_algs=_algorithms(
            asked.get("HostKeyAlgorithms"), get_public_key_algs(), client.known.algorithms()
        ),
        kex_algs=_algorithms(asked.get("KexAlgorithms"), get_kex_algs(), _KEX),
        encryption_algs=_algorithms(asked.get("Ciphers"), get_encryption_algs(), _CIPHERS),
        mac_algs=_algorithms(asked.get("MACs"), get_mac_algs(), []),
        proxy_command=target.proxy_command,
        client_keys=None,  # they come from public_key_auth_requested
        agent_path=None,
        preferred_auth="publickey",
        gss_host=None,
        gss_kex=False,
        gss_auth=False,
        x509_trusted_certs=[],
        x509_trusted_cert_paths=[],
        connect_timeout=None,  # both timeouts are ours, so that we know which one it was
        login_timeout=0,
        keepalive_interval=KEEPALIVE_INTERVAL,
        keepalive_count_max=KEEPALIVE_COUNT,
        utf8_decode_errors="replace",
    )


def _algorithms(asked: str | None, possible: Sequence[bytes], ours: Sequence[str]) -> Sequence[str] | str:
    """What ssh_config asks for, less what asyncssh does not have (it would refuse the whole list); else our choice."""
    have = {name.decode() for name in possible}
    if not asked:
        return [name for name in ours if name in have or name.endswith("-cert-v01@openssh.com")] or ()
    sign = asked[0] if asked[0] in "+-^" else ""
    names = [name for name in asked.removeprefix(sign).split(",") if "*" in name or name in have]
    return sign + ",".join(names) if names else ()


def _too_slow(host: str, during: str, client: _Client, seconds: float) -> HostError:
    if not client.connected:
        return Unreachable(host, during, f"no answer within {seconds:g} s", hint="is it switched on, and is its sshd?")
    cause = f"the login did not end within {seconds:g} s"
    hint = "is the host overloaded? is DNS slow there (sshd_config: UseDNS no)?"
    return Unreachable(host, during, cause, hint=hint)


def _failed(host: str, during: str, target: Target, client: _Client, error: Exception) -> HostError:
    said = str(error) or type(error).__name__
    if isinstance(error, asyncssh.ChannelOpenError):
        return _behind(host, during, target, error)
    if isinstance(error, asyncssh.KeyExchangeFailed):
        hint = f"`ssh -v {target}` shows what it offers; update its sshd"
        return Unreachable(host, during, f"it has no algorithm in common with us: {said}", hint=hint)
    if isinstance(error, FileNotFoundError):
        return Unreachable(host, during, f"cannot run the ProxyCommand {target.proxy_command!r}: {said}")
    if "Too many authentication failures" in said:
        return _refused(host, target, client)
    if isinstance(error, asyncssh.ConnectionLost | ConnectionError) and not client.authenticating:
        hint = (
            "sshd is at its limit (MaxStartups in sshd_config) or shuts this address out (fail2ban, PerSourcePenalties)"
        )
        return TryAgain(host, during, "it closed the connection before the login", hint=hint)
    if isinstance(error, asyncssh.ProtocolError | asyncssh.ProtocolNotSupported | ValueError):
        hint = f"is `port` right? {target.address} port {target.port} may be something else than sshd"
        return Unreachable(host, during, f"what answers does not speak SSH: {said}", hint=hint)
    return ConnectionLost(host, during, f"the connection ended during the login: {said}", hint="run this again")


def _behind(host: str, during: str, target: Target, error: asyncssh.ChannelOpenError) -> HostError:
    """The jump host could not, or would not, connect to the next one."""
    if error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
        hint = "sshd_config of the jump host needs AllowTcpForwarding yes"
        return Unreachable(host, during, f"the jump host forwards nothing: {error.reason}", hint=hint)
    hint = f"can the jump host reach {target.address} port {target.port}?"
    return Unreachable(host, during, f"the jump host cannot connect: {error.reason}", hint=hint)


def _certificate(host: str, target: Target, error: Exception) -> HostError:
    hint = "the @cert-authority or @revoked lines of your known_hosts files decide about host certificates"
    return HostKeyRefused(host, f"checking the host key of {target.address}", str(error), hint=hint)


def _refused(host: str, target: Target, client: _Client) -> HostError:
    """AuthRefused that lists what was shown to the host, and what could not be."""
    tried = (
        ", ".join(identity.label for identity in client.tried) or "no key at all: there is none in ~/.ssh, and no agent"
    )
    cause = f"{target.user} was refused; tried {tried}"
    if client.locked:
        cause += "; locked by a passphrase: " + ", ".join(identity.label for identity in client.locked)
    if client.unusable:
        cause += "; not readable: " + ", ".join(client.unusable)
    port = ("-p", target.port) if target.port != SSH_PORT else ()
    login = f"{target.user}@{target.address}"
    key = next((("-i", identity.path) for identity in client.tried if identity.path), ())
    hint = f"`{words('ssh-copy-id', *key, *port, login)}` gives it a key; `{words('ssh', '-v', *port, login)}` shows what ssh does"
    if client.locked:
        hint = f"`{words('ssh-add', client.locked[0].path)}` unlocks the key for an agent; or " + hint
    return AuthRefused(host, f"logging in to {target}", cause, hint=hint)
