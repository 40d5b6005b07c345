"""OpenSSH's `ssh` on the way that we have checked: same hops, same user, same key, and only the host keys we verified.

It moves bulk bytes in C and outside of our process. What it reads is a configuration of our own in a private
directory; of the operator's it reads nothing, so nothing there can send it elsewhere.
"""

import asyncio
import base64
import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from olladist.places import runtime_dir
from olladist.ssh.keyring import Keyring
from olladist.ssh.login import Link

TARGET = "target"  # the name of the host in the configuration written for it

_COMMON = """\
  BatchMode yes
  StrictHostKeyChecking yes
  GlobalKnownHostsFile /dev/null
  CheckHostIP no
  UpdateHostKeys no
  VerifyHostKeyDNS no
  PreferredAuthentications publickey
  IdentitiesOnly yes
  ForwardAgent no
  ForwardX11 no
  ControlMaster no
  ControlPath none
  PermitLocalCommand no
  RequestTTY no
  Compression no
  LogLevel ERROR
  ExitOnForwardFailure yes
  StreamLocalBindUnlink yes
  StreamLocalBindMask 0177
"""


_HOSTNAME = re.compile(r"[A-Za-z0-9_.:%][A-Za-z0-9_.:%-]*")


class NotForOpenSSH(ValueError):
    """Only asyncssh can go this way; the text says why."""


class OpenSSH:
    """Configurations for `ssh`, one for each Link that wants one."""

    def __init__(self, keyring: Keyring, binary: str | None = None) -> None:
        self._keyring = keyring
        self._binary = binary if binary is not None else shutil.which("ssh")
        self._directory: Path | None = None

    def command(
        self, link: Link, *options: str, connect_timeout: float = 10, alive: tuple[int, int] = (15, 3)
    ) -> list[str]:
        """The words before the remote command. NotForOpenSSH where there is no `ssh`, or none that could log in there."""
        if not self._binary:
            raise NotForOpenSSH("there is no `ssh` on this machine")
        links = list(_chain(link))
        blocks = [_block(index, each, self._key_file(each), len(links)) for index, each in enumerate(links)]
        common = f"""\
  ConnectTimeout {max(1, round(connect_timeout))}
  ServerAliveInterval {alive[0]}
  ServerAliveCountMax {alive[1]}
{_COMMON}"""
        known_hosts = self._write("".join(f"host{index} {_host_key(each)}\n" for index, each in enumerate(links)))
        config = self._write("\n".join([*blocks, "Host *", f"  UserKnownHostsFile {_value(known_hosts)}", common]))
        return [self._binary, "-F", str(config), "-T", *options, TARGET]

    async def close(self) -> None:
        if self._directory:
            await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)
            self._directory = None

    def _key_file(self, link: Link) -> str | None:
        """The IdentityFile that is the key which asyncssh got in with; for an agent's key its public half, written down."""
        identity = link.identity
        if identity is None:
            return None
        if self._keyring.was_unlocked(identity):
            raise NotForOpenSSH(f"{identity.label} is locked by a passphrase that only we were told")
        if identity.path:
            return _value(identity.path)
        if identity.held is None:
            return None
        encoded = base64.b64encode(identity.held.public_data).decode()
        return _value(self._write(f"{identity.held.get_algorithm()} {encoded}\n", ".pub"))

    def _write(self, text: str, suffix: str = "") -> Path:
        """A file with this text, named by it: a tunnel that is opened again and again writes nothing new."""
        if self._directory is None:
            self._directory = runtime_dir()
        path = self._directory / (hashlib.sha256(text.encode()).hexdigest()[:16] + suffix)
        if not path.exists():
            path.write_text(text)
        return path


def _chain(link: Link) -> Iterator[Link]:
    """The hops, the one nearest to us first."""
    if link.via:
        yield from _chain(link.via)
    yield link


def _host_key(link: Link) -> str:
    if link.host_key is None:
        raise NotForOpenSSH(f"{link.target.address} showed no host key")
    return link.host_key.export_public_key().decode().strip()


def _block(index: int, link: Link, key: str | None, count: int) -> str:
    """The Host entry of one hop. HostKeyAlias ties it to the one line that we wrote into known_hosts for it."""
    target = link.target
    if not _HOSTNAME.fullmatch(target.address):  # older versions of ssh give it to a shell (ProxyJump)
        raise NotForOpenSSH(f"{target.address!r} is not a host name")
    lines = [
        f"Host {TARGET if index == count - 1 else f'hop{index}'}",
        f"HostName {_value(target.address)}",
        f"Port {target.port}",
        f"User {_value(target.user, tokens=False)}",
        f"HostKeyAlias host{index}",
        f"IdentityFile {key or 'none'}",
        f"IdentityAgent {_value(link.identity.agent) if link.identity and link.identity.held and link.identity.agent else 'none'}",
    ]
    if link.identity:
        lines += [f"CertificateFile {_value(path)}" for path in link.identity.certificates]
    if index:
        lines.append(f"ProxyJump hop{index - 1}")
    elif target.proxy_command:
        lines.append("ProxyCommand " + target.proxy_command.replace("%", "%%"))
    asked = dict(target.algorithms)
    # The fastest cipher first (figures: docs/concepts/ssh.md), unless somebody has chosen.
    asked.setdefault("Ciphers", "^aes128-gcm@openssh.com,aes256-gcm@openssh.com")
    lines += [f"{name} {value}" for name, value in asked.items()]
    if any("\n" in line for line in lines):
        raise NotForOpenSSH("a value holds a line break")
    return "\n  ".join(lines)


def _value(value: object, *, tokens: bool = True) -> str:
    """A value for ssh_config(5): quoted, its % not read as the start of a token."""
    text = str(value)
    if '"' in text or "\n" in text or "${" in text or "\\" in text:
        raise NotForOpenSSH(f"{text!r} cannot be written into an ssh_config")
    return f'"{text.replace("%", "%%") if tokens else text}"'
