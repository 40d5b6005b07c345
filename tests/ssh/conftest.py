"""A real SSH server on loopback as the host: asyncssh's, running real commands in a home of its own."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import asyncssh
import pytest

from olladist.inventory.model import Host
from olladist.ssh.connections import Connections
from olladist.ssh.local import LocalRunner
from olladist.ssh.runner import Runner

SUDO = """\
#!/bin/sh
# A sudo that wants the password in $SUDO_PASSWORD ("" for none), as sudo(8) does with -n, -k, -S and -p.
while [ $# -gt 0 ]; do
  case $1 in
    -n) never=1 ;; -k) ;; -H) ;; -S) stdin=1 ;; -p) shift ;;
    --) shift; break ;;
    *) break ;;
  esac
  shift
done
echo "sudo $*" >>"$HOME/sudo.log"
if [ -n "$SUDO_DENIES" ]; then echo "$SUDO_DENIES" >&2; exit 1; fi
if [ -n "$SUDO_PASSWORD" ]; then
  if [ -n "$never" ]; then echo "sudo: a password is required" >&2; exit 1; fi
  IFS= read -r answer || { echo "sudo: no password was provided" >&2; exit 1; }
  if [ "$answer" != "$SUDO_PASSWORD" ]; then
    echo "Sorry, try again." >&2; echo "sudo: 1 incorrect password attempt" >&2; exit 1
  fi
fi
PATH=$ROOT_PATH; export PATH; AS_ROOT=yes; export AS_ROOT
exec "$@"
"""

ID = """\
#!/bin/sh
case $1 in -un) echo ops ;; -u) echo 1000 ;; esac
"""


class Sshd(asyncssh.SSHServer):
    """One host. Its attributes are what a test looks at and turns."""

    def __init__(self, home: Path, key: asyncssh.SSHKey, authorized: list[asyncssh.SSHKey]) -> None:
        self.home = home
        self.key = key
        self.authorized = authorized
        self.port = 0
        self.env: dict[str, str] = {}
        self.shell = "/bin/sh"
        self.forwards = True
        self.connections: set[asyncssh.SSHServerConnection] = set()
        self.logins = 0
        self.starts_at_once = 0  # connections that are not logged in
        self.most_starts = 0
        self.sessions = 0
        self.most_sessions = 0
        self.sessions_max = 10  # as sshd's MaxSessions
        self.refused_sessions = 0
        self.drop = 0  # so many connections are closed before they can log in
        self.tried: list[str] = []
        self._server: asyncssh.SSHAcceptor | None = None
        self._running: dict[asyncio.subprocess.Process, asyncio.Task[None]] = {}

    async def start(self, port: int = 0) -> None:
        self._server = await asyncssh.listen(
            "127.0.0.1",
            port or self.port,
            server_factory=lambda: _Connection(self),
            server_host_keys=[self.key],
            encoding=None,
            reuse_address=True,
            allow_scp=False,
            gss_host=None,
            login_timeout=20,
        )
        self.port = self._server.get_port()

    async def stop(self) -> None:
        """As if the plug were pulled: no goodbye to anybody, and nothing runs on."""
        server, self._server = self._server, None
        if server:
            server.close()
        for connection in list(self.connections):
            connection.abort()
            await connection.wait_closed()
        if server:
            await server.wait_closed()  # from Python 3.12 on it waits for the connections too
        for child in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        if self._running:
            await asyncio.wait(self._running.values())

    def session(self) -> asyncssh.SSHServerProcess[bytes]:
        """Counts it from its opening on, as sshd does."""
        if self.sessions >= self.sessions_max:
            self.refused_sessions += 1
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "open failed")
        self.sessions += 1
        self.most_sessions = max(self.sessions, self.most_sessions)
        return asyncssh.SSHServerProcess(self._run, None, 3, allow_scp=False)

    async def _run(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        try:
            child = await asyncio.create_subprocess_exec(
                self.shell,
                "-c",
                process.command or "",
                stdin=-1,
                stdout=-1,
                stderr=-1,
                cwd=self.home,
                env={"HOME": str(self.home), "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", **self.env},
                start_new_session=True,
            )
            task = asyncio.current_task()
            assert task
            self._running[child] = task
            feeding = asyncio.create_task(_feed(process.stdin, child))
            await asyncio.gather(_pump(child.stdout, process.stdout), _pump(child.stderr, process.stderr))
            status = await child.wait()
            del self._running[child]
            feeding.cancel()
            await asyncio.wait({feeding})
            if status < 0:
                process.exit_with_signal({9: "KILL", 15: "TERM", 13: "PIPE"}.get(-status, "HUP"))
            else:
                process.exit(status)
        finally:
            self.sessions -= 1

    def sudo(self, *, password: str = "", denies: str = "") -> None:
        """From now on the login is an ordinary user's, with a sudo that asks for `password`."""
        programs = self.home / "bin"
        programs.mkdir(exist_ok=True)
        for name, text in (("sudo", SUDO), ("id", ID)):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        path = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        self.env |= {
            "PATH": f"{programs}:{path}",
            "ROOT_PATH": path,
            "SUDO_PASSWORD": password,
            "SUDO_DENIES": denies,
        }

    def host(self, name: str = "gpu1", **more: object) -> Host:
        return Host(name, "127.0.0.1", port=self.port, user="ops", **more)  # type: ignore[arg-type]  # any field


async def _pump(reader: Any, writer: Any) -> None:
    """Copies until the end, or until nobody takes it any more."""
    with contextlib.suppress(OSError, asyncssh.Error):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


async def _feed(stdin: asyncssh.SSHReader[bytes], child: asyncio.subprocess.Process) -> None:
    """Stdin to its end; signals go to the process group, as sshd sends them for an ordinary user."""
    while True:
        try:
            await _pump(stdin, child.stdin)
        except asyncssh.SignalReceived as received:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, getattr(signal, f"SIG{received.signal}"))
        else:
            assert child.stdin
            child.stdin.close()
            return


class _Connection(asyncssh.SSHServer):
    def __init__(self, sshd: Sshd) -> None:
        self._sshd = sshd
        self._starting = False

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._conn = conn
        self._sshd.connections.add(conn)
        self._starting = True
        self._sshd.starts_at_once += 1
        self._sshd.most_starts = max(self._sshd.most_starts, self._sshd.starts_at_once)
        if self._sshd.drop > 0:
            self._sshd.drop -= 1
            conn.abort()

    def _started(self) -> None:
        self._sshd.starts_at_once -= self._starting
        self._starting = False

    def connection_lost(self, exc: Exception | None) -> None:
        self._started()
        self._sshd.connections.discard(self._conn)

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        self._sshd.tried.append(key.get_fingerprint())
        return key in self._sshd.authorized

    def auth_completed(self) -> None:
        self._started()
        self._sshd.logins += 1

    def session_requested(self) -> asyncssh.SSHServerProcess[bytes]:
        return self._sshd.session()

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        if not self._sshd.forwards:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "open failed")
        return True


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listening:
    """A server whose clients are all gone when it is."""

    def __init__(self, serve: Serve, path: Path | None = None) -> None:
        self._serve = serve
        self._path = path
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.AbstractServer | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        if self._path:
            self._server = await asyncio.start_unix_server(self._client, self._path)
        else:
            self._server = server = await asyncio.start_server(self._client, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        try:
            with contextlib.suppress(asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
                await self._serve(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            self._tasks.discard(task)


class Agent(Listening):
    """An ssh-agent (draft-ietf-sshm-ssh-agent): lists its keys and signs with them."""

    def __init__(self, path: Path, *keys: asyncssh.SSHKey) -> None:
        super().__init__(self._requests, path)
        self.path = path
        self.keys = {key.public_data: key for key in keys}
        self.asked = 0
        self.signs = True

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            size = int.from_bytes(await reader.readexactly(4))
            answer = self._answer(await reader.readexactly(size))
            writer.write(len(answer).to_bytes(4) + answer)

    def _answer(self, request: bytes) -> bytes:
        def string(data: bytes) -> bytes:
            return len(data).to_bytes(4) + data

        if request[0] == 11:
            self.asked += 1
            keys = b"".join(string(blob) + string(key.get_comment_bytes() or b"") for blob, key in self.keys.items())
            return b"\x0c" + len(self.keys).to_bytes(4) + keys
        if not self.signs:
            return b"\x05"
        size = int.from_bytes(request[1:5])
        blob, rest = request[5 : 5 + size], request[5 + size :]
        data = rest[4 : 4 + int.from_bytes(rest[:4])]
        key = self.keys[blob]
        return b"\x0e" + string(key.sign(data, key.sig_algorithms[0]))


StartSshd = Callable[[str], Awaitable[Sshd]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of our own, so that no key, agent or configuration of whoever runs the tests plays a part."""
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return home


@pytest.fixture(scope="session")
def user_key() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519", "fleet@laptop")


@pytest.fixture
def identity(home: Path, user_key: asyncssh.SSHKey) -> Path:
    path = home / ".ssh" / "id_ed25519"
    path.write_bytes(user_key.export_private_key())
    path.chmod(0o600)
    return path


@pytest.fixture
def listening() -> type[Listening]:
    """Makes a server on a port of loopback, for the time of a context."""
    return Listening


@pytest.fixture
def agent(tmp_path: Path) -> Callable[..., Agent]:
    """Makes an agent that holds the given keys."""
    return lambda *keys: Agent(tmp_path / "agent", *keys)


@pytest.fixture
async def start_sshd(tmp_path: Path, user_key: asyncssh.SSHKey) -> AsyncIterator[StartSshd]:
    """Starts hosts, each with its own home and host key."""
    started: list[Sshd] = []

    async def start(name: str) -> Sshd:
        home = tmp_path / "hosts" / name
        home.mkdir(parents=True)
        sshd = Sshd(home, asyncssh.generate_private_key("ssh-ed25519"), [user_key.convert_to_public()])
        await sshd.start()
        started.append(sshd)
        return sshd

    yield start
    for sshd in started:
        await sshd.stop()


@pytest.fixture
async def sshd(start_sshd: StartSshd) -> Sshd:
    return await start_sshd("gpu1")


@pytest.fixture
async def connections(tmp_path: Path, identity: Path) -> AsyncIterator[Connections]:
    """Connections as the command line makes them, that take every new key and have no `ssh` to run."""
    async with Connections(accept_new=True, state=tmp_path / "state", openssh="") as connections:
        yield connections


@pytest.fixture(params=["local", "ssh"])
async def runner(
    request: pytest.FixtureRequest, start_sshd: StartSshd, connections: Connections
) -> AsyncIterator[Runner]:
    """Every implementation of Runner, one after the other."""
    if request.param == "local":
        local = LocalRunner("laptop")
        yield local
        await local.close()
        return
    runner = await connections.runner((await start_sshd("gpu1")).host())
    yield runner
    await runner.close()


Until = Callable[[Callable[[], object]], Awaitable[None]]


@pytest.fixture
def until() -> Until:
    """Waits for a condition, and fails if it does not come true within ten seconds."""

    async def until(condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110  what other processes do sets no event
                await asyncio.sleep(0.01)

    return until
