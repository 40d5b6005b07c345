"""Where a host is and how to log in to it: the inventory's word first, then ~/.ssh/config, then ssh's defaults."""

import getpass
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import asyncssh
from asyncssh.config import ConfigParseError, SSHClientConfig, SSHConfig

from olladist.errors import HostError, Unreachable
from olladist.inventory.model import Host
from olladist.ssh.configfile import ConfigFile
from olladist.ssh.hostkeys import SSH_PORT, HostName

SYSTEM_CONFIG = Path("/etc/ssh/ssh_config")
_DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
_GLOBAL_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
_USER_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
_MOST_HOPS = 8

_HOP = re.compile(r"(?:ssh://)?(?:(?P<user>.+)@)?(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:@/\[\]]+))(?::(?P<port>\d{1,5}))?/?")


@dataclass(frozen=True, slots=True)
class Target:
    """One sshd to log in to, everything resolved."""

    address: str
    port: int
    user: str
    alias: str | None = None  # HostKeyAlias
    identities: tuple[Path, ...] = ()  # private (or public) key files to try, in this order
    certificates: tuple[Path, ...] = ()
    identities_only: bool = False
    identities_declared: bool = False  # somebody named the identities; they are not just the files ssh looks for
    agent: str | None = None  # its socket
    known_hosts: tuple[Path, ...] = ()
    connect_timeout: int | None = None
    proxy_command: str | None = None
    algorithms: tuple[
        tuple[str, str], ...
    ] = ()  # KexAlgorithms, Ciphers, MACs, HostKeyAlgorithms where somebody set them

    @property
    def name(self) -> HostName:
        return HostName.of(self.address, self.port, self.alias)

    def __str__(self) -> str:
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.user}@{address}" + (f":{self.port}" if self.port != SSH_PORT else "")


@dataclass(frozen=True, slots=True)
class Hop:
    """What "[user@]host[:port]" says, as ProxyJump and the inventory write it."""

    host: str
    user: str | None = None
    port: int | None = None


def parse_hop(text: str) -> Hop:
    """ValueError for what is no "[user@]host[:port]"."""
    found = _HOP.fullmatch(text.strip())
    if not found or not 0 < int(found["port"] or SSH_PORT) < 65536:
        raise ValueError(f"{text!r} is not [user@]host[:port]")
    return Hop(found["v6"] or found["host"], found["user"], int(found["port"]) if found["port"] else None)


class SshConfig:
    """What the operator's ssh configuration says. `path` alone counts where it is given, as with `ssh -F`."""

    def __init__(self, path: Path | None = None) -> None:
        usual = (Path("~/.ssh/config").expanduser(), SYSTEM_CONFIG)
        paths = [path] if path else [file for file in usual if os.access(file, os.R_OK)]
        self._files = [ConfigFile(path) for path in paths]
        self._user = getpass.getuser()

    def route(self, host: Host) -> tuple[Target, ...]:
        """The sshds on the way, the host itself last. Unreachable for a configuration that cannot be read or goes in circles."""
        first = Hop(host.address, host.user, host.port)
        identity = (host.identity.expanduser(),) if host.identity else ()
        try:
            return self._route(first, host.jump or None, identity, ())
        except ConfigParseError as error:
            cause = re.sub(r"^(\S+) line (\d+):", r"\1:\2:", str(error))
            raise _unreadable(host.name, cause) from error
        except (OSError, ValueError, asyncssh.Error) as error:
            raise _unreadable(host.name, str(error)) from error

    def _route(
        self, hop: Hop, jump: Sequence[str] | None, identity: tuple[Path, ...], behind: tuple[Hop, ...]
    ) -> tuple[Target, ...]:
        """The way to `hop`. Only the first jump host's own ProxyJump counts, as `ssh -J` has it."""
        if hop in behind or len(behind) >= _MOST_HOPS:
            raise ValueError("ProxyJump goes in circles: " + " -> ".join(seen.host for seen in (*behind, hop)))
        target, declared = self._target(hop, identity)
        hops = [parse_hop(text) for text in (declared if jump is None else jump)]
        before: tuple[Target, ...] = ()
        if hops:
            # A jump host may want its own key; the fleet's is tried there too.
            before = self._route(hops[0], None, identity, (*behind, hop))
            before += tuple(self._target(each, identity)[0] for each in hops[1:])
            target = replace(target, proxy_command=None)
        return (*before, target)

    def _target(self, hop: Hop, identity: tuple[Path, ...]) -> tuple[Target, list[str]]:
        """One sshd without the way to it, and the ProxyJump of the configuration."""
        config = self._load(hop)
        text = cast("Callable[[str], str | None]", config.get)
        many = cast("Callable[[str], list[str] | None]", config.get)
        address = text("Hostname") or hop.host
        port = cast(int, config.get("Port", SSH_PORT))
        user = text("User") or self._user
        tokens = {
            "%": "%",
            "h": address,
            "n": hop.host,
            "p": str(port),
            "r": user,
            "u": self._user,
            "d": str(Path.home()),
        }
        tokens["k"] = text("HostKeyAlias") or address
        declared = [Path(name).expanduser() for name in many("IdentityFile") or []]
        defaults = [Path("~/.ssh", name).expanduser() for name in _DEFAULT_KEYS]
        agent = cast("str | None", config.get("IdentityAgent", "SSH_AUTH_SOCK"))
        jump = text("ProxyJump")
        target = Target(
            address=address,
            port=port,
            user=user,
            alias=text("HostKeyAlias"),
            identities=tuple(dict.fromkeys((*identity, *(declared or ([] if identity else defaults))))),
            certificates=tuple(Path(name).expanduser() for name in many("CertificateFile") or []),
            identities_declared=bool(identity or declared),
            identities_only=bool(config.get("IdentitiesOnly", False)),
            agent=_agent(agent),
            known_hosts=tuple(_known_hosts(many, tokens)),
            connect_timeout=cast("int | None", config.get("ConnectTimeout")),
            proxy_command=None if jump else text("ProxyCommand"),
            algorithms=tuple(
                (name, value)
                for name in ("KexAlgorithms", "Ciphers", "MACs", "HostKeyAlgorithms")
                if (value := text(name))
            ),
        )
        return target, [part for part in (jump or "").split(",") if part]

    def _load(self, hop: Hop) -> SSHConfig:
        words = (self._user, hop.user or (), hop.host, hop.port or ())
        with tempfile.TemporaryDirectory(prefix="olladist-") as directory:  # asyncssh reads files, nothing else
            paths = [Path(directory, str(number)) for number, _ in enumerate(self._files)]
            for path, file in zip(paths, self._files, strict=True):
                path.write_text(file.for_host(hop.host))
            try:
                config = SSHClientConfig.load(None, paths, False, False, False, *words)
                if config.has_match_final():
                    config = SSHClientConfig.load(config, paths, True, False, True, *words)
            except ConfigParseError as error:
                said = str(error)
                for path, file in zip(paths, self._files, strict=True):
                    said = said.replace(f"{path} line", f"{file.path} line")
                raise ConfigParseError(said) from error
        return config


def _agent(configured: str | None) -> str | None:
    """IdentityAgent: a path, "SSH_AUTH_SOCK" or "$VARIABLE"; None for none."""
    if configured and (configured == "SSH_AUTH_SOCK" or configured.startswith("$")):
        configured = os.environ.get(configured.lstrip("$").strip("{}"))
    return str(Path(configured).expanduser()) if configured else None


def _known_hosts(many: Callable[[str], list[str] | None], tokens: dict[str, str]) -> list[Path]:
    user = many("UserKnownHostsFile")
    system = many("GlobalKnownHostsFile")
    names = (*(_USER_KNOWN_HOSTS if user is None else user), *(_GLOBAL_KNOWN_HOSTS if system is None else system))
    expand = re.compile("%([" + re.escape("".join(tokens)) + "])")
    return [Path(expand.sub(lambda found: tokens[found[1]], name)).expanduser() for name in names]


def _unreadable(host: str, cause: str) -> HostError:
    return Unreachable(
        host, "reading the ssh configuration", cause, hint="correct that line; `ssh -G HOST` shows what ssh reads"
    )
