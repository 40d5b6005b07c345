"""Throw-away hosts: SSH servers on the loopback of this machine, each with a home directory of its own; no root needed.

`python -m olladist.sim.hosts N FOLDER` starts N of them, prints an inventory and stays until it is interrupted or its stdin ends.

A host is its home directory, its sshd and every process that was started through that. It looks like a plain user's account on a
machine without systemd and without sudo, whoever runs it: the first directory of its PATH holds commands that say so. It can be
killed as by a power cut, and started again at the same port with the same keys and files.
"""

import contextlib
import fcntl
import getpass
import json
import os
import pwd
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

from olladist.errors import OlladistError, UsageError
from olladist.sim.power import MARK, kill_all
from olladist.sim.sshd import keygen

_READY_SECONDS = 20.0
# Below those that systems give to connections (from 32768 on Linux, 49152 on macOS): nobody gets one between its choice and its use.
_PORTS = range(20_000, 32_000)
_BLOCK = 100
_SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish"})
_SSHD_PLACES = ("/usr/sbin/sshd", "/usr/local/sbin/sshd", "/sbin/sshd")

# What the hosts shall not seem to have: (command, what it answers). `id` is added for root, who would install system-wide.
_SHIMS: Mapping[str, str] = {
    "sudo": "echo 'sudo: there is no root on a throw-away host' >&2; exit 1",
    "systemctl": "echo 'System has not been booted with systemd' >&2; exit 1",
    "loginctl": "exit 1",
    "nvidia-smi": "exit 127",
}


@dataclass(frozen=True, slots=True)
class Host:
    """One throw-away host; `instances` are free ports for its Ollamas."""

    name: str
    folder: Path
    port: int
    instances: tuple[int, ...]

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def mark(self) -> str:
        return str(self.folder)

    def environ(self, extra: Mapping[str, str]) -> dict[str, str]:
        """What a login finds."""
        return {
            "HOME": str(self.home),
            "USER": getpass.getuser(),
            "LOGNAME": getpass.getuser(),
            "SHELL": "/bin/sh",
            "LANG": "C.UTF-8",
            "PATH": f"{self.folder / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "SIM_NAME": self.name,
            MARK: self.mark,
            **extra,
        }


class ThrowawayHosts:
    """The hosts below one folder, and the key that opens them. A context manager: leaving it kills them all.

    `environ` is added to what logins find; without `openssh`, or where OpenSSH's sshd does not run, the servers are our own.
    `apart` gives each host a process table of its own, so that many do not see each other's servers; that needs root.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        *,
        instances: int = 1,
        environ: Mapping[str, str] | None = None,
        openssh: bool = True,
        apart: bool = False,
    ) -> None:
        if sys.platform != "linux":
            raise UsageError(
                "throw-away hosts are processes of this machine, and hosts of olladist run Linux",
                hint="run this on Linux, in a virtual machine or in a container",
            )
        self.folder = folder.resolve()
        self.identity = self.folder / "id_ed25519"
        self.environ = dict(environ or {})
        self.openssh = openssh
        self._inside = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc") if apart else ()
        ports = iter(free_ports(len(names) * (1 + instances)))
        self.hosts = {
            name: Host(name, self.folder / name, next(ports), tuple(next(ports) for _ in range(instances)))
            for name in names
        }
        self._servers: dict[str, int] = {}  # name to the process that is its sshd
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self.identity.exists():
            keygen(self.identity)
        for host in self.hosts.values():
            self._prepare(host)
        try:
            self.start(*self.hosts)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, *names: str) -> None:
        """Boots hosts that are down; they listen when this returns."""
        hosts = [self.hosts[name] for name in names]
        sshd = usable_sshd(hosts[0].folder, self._config(hosts[0])) if hosts and self.openssh else None
        if sshd:
            for host in hosts:
                self._start_openssh(sshd, host)
        elif hosts:
            if self._inside:
                raise OlladistError(
                    "hosts apart from each other need OpenSSH's sshd, and it does not run here: `sshd -t` says why"
                )
            self._start_python(hosts)
        deadline = time.monotonic() + _READY_SECONDS
        for host in hosts:
            while not listens(host.port):
                if time.monotonic() > deadline:
                    log = (host.folder / "sshd.log").read_text(errors="replace") if sshd else ""
                    raise OlladistError(f"{host.name}: its SSH server does not start: {log.strip()[-500:]}")
                time.sleep(0.01)

    def kill(self, name: str) -> None:
        """A power cut: every process of the host dies at once, and its port goes away."""
        kill_all(self.hosts[name].mark, self._servers.pop(name, None))
        self._reap()

    def close(self) -> None:
        for name in self.hosts:
            self.kill(name)
        for process in self._started:
            if process.stdin:
                process.stdin.close()
            process.wait(10)
        self._started.clear()

    def inventory(self, *, comment: str = "") -> str:
        """The hosts as an inventory that olladist takes."""
        lines = [f"# {line}" for line in comment.splitlines()]
        lines += [
            "[fleet]",
            'name = "throw-away"',
            "",
            "[defaults]",
            f"user = {json.dumps(getpass.getuser())}",
            f"identity = {json.dumps(str(self.identity))}",
            'service = "detached"',
        ]
        for host in self.hosts.values():
            ports = ", ".join(f"{{ port = {port} }}" for port in host.instances)
            lines += [
                "",
                f"[hosts.{host.name}]",
                'address = "127.0.0.1"',
                f"port = {host.port}",
                f"instances = [{ports}]",
            ]
        return "\n".join(lines) + "\n"

    def _prepare(self, host: Host) -> None:
        for folder in (host.home, host.folder / "bin", host.folder / "run"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        shims = dict(_SHIMS)
        if os.geteuid() == 0:
            user = shlex.quote(getpass.getuser())
            shims["id"] = f'case $1 in -u|-g) echo 1000 ;; -un|-gn) echo {user} ;; *) exec /usr/bin/id "$@" ;; esac'
        for command, script in shims.items():
            path = host.folder / "bin" / command
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
        for name in (".bashrc", ".zshenv"):
            # sshd starts commands in the home directory that passwd knows, whatever HOME says.
            (host.home / name).write_text('cd "$HOME"\n')
        if not (host.folder / "host_key").exists():
            keygen(host.folder / "host_key")
        shutil.copyfile(self.identity.with_name("id_ed25519.pub"), host.folder / "authorized_keys")

    def _config(self, host: Host) -> str:
        """sshd_config: as small as it can be, and all below the host's own folder."""
        environ = " ".join(f'"{key}={value}"' for key, value in host.environ(self.environ).items())
        return f"""Port {host.port}
ListenAddress 127.0.0.1
HostKey {host.folder}/host_key
AuthorizedKeysFile {host.folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PrintMotd no
UseDNS no
AllowTcpForwarding yes
Subsystem sftp internal-sftp
SetEnv {environ}
"""

    def _start_openssh(self, sshd: str, host: Host) -> None:
        config = host.folder / "sshd_config"
        config.write_text(self._config(host))
        with (host.folder / "sshd.log").open("ab") as log:
            process = subprocess.Popen(
                [*self._inside, sshd, "-D", "-e", "-f", config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=host.environ(self.environ),
                cwd=host.home,
            )
        self._started.append(process)
        self._servers[host.name] = process.pid

    def _start_python(self, hosts: Sequence[Host]) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "olladist.sim.sshd"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._started.append(process)
        assert process.stdin is not None  # noqa: S101  asked for as a pipe
        assert process.stdout is not None  # noqa: S101  asked for as a pipe
        for host in hosts:
            spec = {
                "name": host.name,
                "port": host.port,
                "host_key": str(host.folder / "host_key"),
                "authorized_keys": str(host.folder / "authorized_keys"),
                "environ": host.environ(self.environ),
            }
            process.stdin.write(json.dumps(spec).encode() + b"\n")
        process.stdin.write(b"\n")
        process.stdin.flush()
        for line in process.stdout:
            name, pid = line.split()
            self._servers[name.decode()] = int(pid)
        process.stdout.close()

    def _reap(self) -> None:
        for process in self._started:
            process.poll()


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on, and that no other process is given here for as long as this one lives."""
    free = list(islice(filter(_is_free, _own_ports), count))
    if len(free) < count:
        raise OlladistError(f"no {count} free ports between {_PORTS[0]} and {_PORTS[-1]}")
    return free


def _ports_of_this_process() -> Iterator[int]:
    """Block by block, each locked: two processes that were shown the same free port would answer each other's clients."""
    folder = Path(tempfile.gettempdir()) / f"olladist-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for start in random.sample(_PORTS[::_BLOCK], len(_PORTS) // _BLOCK):
        lock = os.open(folder / str(start), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            yield from range(start, start + _BLOCK)  # the lock stays until the process ends


_own_ports = _ports_of_this_process()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def usable_sshd(folder: Path, config: str) -> str | None:
    """OpenSSH's sshd, where there is one that runs for this user and lets this user in.

    As root it wants its own directory in /run; and it starts commands with the shell that passwd knows.
    """
    try:
        shell = pwd.getpwuid(os.getuid()).pw_shell or "/bin/sh"
    except KeyError:
        return None
    sshd = shutil.which("sshd") or next((place for place in _SSHD_PLACES if Path(place).exists()), None)
    if sshd is None or Path(shell).name not in _SHELLS or not os.access(shell, os.X_OK):
        return None
    trial = folder / "sshd_config"
    trial.write_text(config)
    done = subprocess.run([sshd, "-t", "-f", trial], capture_output=True, check=False)
    return sshd if done.returncode == 0 else None


@contextmanager
def running(count: int, folder: Path, *, apart: bool = False) -> Iterator[ThrowawayHosts]:
    """`count` hosts, named h1, h2 and so on."""
    with ThrowawayHosts(folder, [f"h{number}" for number in range(1, count + 1)], apart=apart) as hosts:
        yield hosts


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 2 or not arguments[0].isdigit():
        sys.stderr.write("usage: python -m olladist.sim.hosts COUNT FOLDER\n")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with running(int(arguments[0]), Path(arguments[1])) as hosts:
        sys.stdout.write(hosts.inventory(comment="Throw-away hosts; they go when olladist.sim.hosts ends."))
        sys.stdout.flush()
        os.close(1)  # whoever reads the inventory knows now that it is whole
        with contextlib.suppress(KeyboardInterrupt):
            while sys.stdin.read(4096):
                pass
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
