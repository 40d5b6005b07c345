"""The ssh room against real OpenSSH on real links: gpu51 is the host and the bastion, box52 the host behind it."""

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from olladist.errors import CommandFailed, ConnectionLost, SudoRefused
from olladist.inventory.model import Host
from olladist.ssh.connections import Connections
from olladist.ssh.prompts import Prompts
from olladist.ssh.remote import SSHRunner
from olladist.ssh.tunnel import Tunnel
from tests.lab.machines import KEY, LAB, Hosts, address

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

NEAR, FAR = "gpu51", "box52"
PORT = 11434

# Answers on the host's loopback as a server would, one line per connection.
ANSWER = (
    "import socketserver\n"
    "class H(socketserver.StreamRequestHandler):\n"
    "    def handle(self): self.wfile.write(b'answer to ' + self.rfile.readline())\n"
)


@pytest.fixture(scope="module")
def machines(hosts: Hosts) -> Hosts:
    hosts.up(NEAR, FAR)
    # A user manager that is stopping takes half a minute here, and a login that comes then waits for it: keep them.
    hosts.ssh("root", NEAR, "loginctl enable-linger root ops pat plain")
    return hosts


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "home" / ".ssh").mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return tmp_path / "home"


@asynccontextmanager
async def connecting(
    tmp_path: Path, *, openssh: str | None = None, password: str | None = None
) -> AsyncIterator[Connections]:
    async def secret(host: str, what: str) -> str | None:
        return password

    async with Connections(
        prompts=Prompts(secret=secret), accept_new=True, state=tmp_path / "state", openssh=openssh
    ) as connections:
        yield connections


def at(name: str, user: str, jump: tuple[str, ...] = ()) -> Host:
    return Host(name, address(name), user=user, identity=KEY, jump=jump)


async def connected(connections: Connections, host: Host) -> SSHRunner:
    runner = await connections.runner(host)
    assert isinstance(runner, SSHRunner)
    return runner


async def until(condition: Callable[[], object], seconds: float = 40) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  what hosts do sets no event
            await asyncio.sleep(0.02)


async def eventually(question: Callable[[], Awaitable[object]], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not await question():  # noqa: ASYNC110  what hosts do sets no event
            await asyncio.sleep(0.1)


@contextmanager
def listening(name: str) -> Iterator[None]:
    """Something that answers on PORT of the host's loopback: our Python in its network, for it has none."""
    init = (LAB / "hosts" / name / "init").read_text().strip()
    script = f"{ANSWER}class S(socketserver.ThreadingTCPServer): allow_reuse_address = True\nS(('127.0.0.1', {PORT}), H).serve_forever()"
    server = subprocess.Popen(["nsenter", "-t", init, "-n", sys.executable, "-c", script])
    try:
        yield
    finally:
        server.kill()
        server.wait()


async def ask(path: Path) -> bytes:
    """What the server behind a tunnel answers; b"" where it closes at once."""
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return b""
    try:
        writer.write(b"ping\n")
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


# Commands


@pytest.mark.parametrize(
    ("user", "mode", "uid"),
    [("root", "root", "0"), ("ops", "passwordless", "0"), ("pat", "password", "0"), ("plain", "password", None)],
)
async def test_every_kind_of_user(machines: Hosts, tmp_path: Path, user: str, mode: str, uid: str | None) -> None:
    """Root by login, by sudo, by sudo with a password; and who cannot become root reads why."""
    async with connecting(tmp_path, password="lab") as connections:
        runner = await connected(connections, at(NEAR, user))

        assert await runner.sudo() == mode
        assert await runner.check("id -un") == f"{user}\n"
        if uid is None:
            with pytest.raises(SudoRefused, match="plain cannot become root"):
                await runner.run("true", root=True)
        else:
            assert await runner.check("id -u; cat", root=True, stdin=b"in") == f"{uid}\nin"


@pytest.mark.parametrize(("user", "root"), [("root", False), ("ops", False), ("ops", True), ("pat", True)])
async def test_timeout_leaves_nothing_on_the_host(machines: Hosts, tmp_path: Path, user: str, root: bool) -> None:
    """The whole process group ends, whoever's it is."""
    mark = f"6{len(user)}{int(root)}77.5"
    async with connecting(tmp_path, password="lab") as connections:
        runner = await connected(connections, at(NEAR, user))
        with pytest.raises(ConnectionLost, match="no end after 1 s"):
            await runner.run(f"sleep {mark} & sleep {mark}; wait", root=root, timeout=1)

        assert (await runner.run(f"pgrep -fx 'sleep {mark}'")).stdout == ""


async def test_more_commands_than_sessions(machines: Hosts, tmp_path: Path) -> None:
    """Forty commands at once on one connection: sshd's ten sessions are never exceeded, nothing is lost."""
    async with connecting(tmp_path) as connections:
        runner = await connected(connections, at(NEAR, "ops"))
        done = await asyncio.gather(*(runner.run(f"echo {n}") for n in range(40)))

        assert [each.stdout for each in done] == [f"{n}\n" for n in range(40)]


async def test_cancelled_commands_free_their_sessions(machines: Hosts, tmp_path: Path) -> None:
    """Six that hang are cancelled at once; ending them fits into the sessions that are left."""
    async with connecting(tmp_path) as connections:
        runner = await connected(connections, at(NEAR, "root"))
        tasks = [asyncio.create_task(runner.run("sleep 6543")) for _ in range(6)]
        await eventually(lambda: _count(runner, "sleep 6543", 6))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

        assert (await runner.run("pgrep -fx 'sleep 6543'")).stdout == ""


async def _count(runner: SSHRunner, command: str, count: int) -> bool:
    """Whether so many of a command run; asked beside the runner, whose sessions are all taken."""
    async with asyncio.timeout(5):
        link = runner.link.connection
        return len((await link.run(f"pgrep -fx '{command}'")).stdout.split()) == count  # type: ignore[union-attr]


async def test_a_noisy_login_shell_does_no_harm(machines: Hosts, tmp_path: Path) -> None:
    """What ~/.bashrc prints is in nobody's output."""
    machines.ssh("root", NEAR, "sed -i '1i echo welcome to the machine; echo danger >&2' ~plain/.bashrc")
    async with connecting(tmp_path) as connections:
        runner = await connected(connections, at(NEAR, "plain"))

        assert await runner.check("echo fine") == "fine\n"
        assert [line async for line in runner.lines("echo one; echo two")] == [b"one", b"two"]
    machines.ssh("root", NEAR, "sed -i 1d ~plain/.bashrc")


async def test_a_login_shell_that_runs_nothing_is_told(machines: Hosts, tmp_path: Path) -> None:
    """nologin's own words, and where to look."""
    machines.ssh("root", NEAR, "usermod -s /usr/sbin/nologin plain")
    async with connecting(tmp_path) as connections:
        with pytest.raises(CommandFailed, match="not available") as caught:
            await (await connected(connections, at(NEAR, "plain"))).run("true")
    machines.ssh("root", NEAR, "usermod -s /bin/bash plain")

    assert "login shell" in caught.value.hint


# Connections


async def test_forty_connections_at_once(machines: Hosts, tmp_path: Path) -> None:
    """None of them is dropped by MaxStartups 10:30:100, because never more than eight are under way."""
    async with connecting(tmp_path) as connections:
        await connections.runner(at(NEAR, "ops"))
        runners = await asyncio.gather(*(connections.runner(at(NEAR, "ops")) for _ in range(40)))

        assert len(runners) == 40
    assert "MaxStartups" not in machines.ssh("root", NEAR, "journalctl -u ssh -o cat --no-pager")


async def test_twenty_through_one_bastion(machines: Hosts, tmp_path: Path) -> None:
    """The bastion sees one login, the host behind it twenty."""
    before = machines.ssh("root", NEAR, "journalctl -u ssh -o cat --no-pager").count("Accepted publickey for plain")
    async with connecting(tmp_path) as connections:
        host = at(FAR, "ops", (f"plain@{address(NEAR)}",))
        runners = await asyncio.gather(*(connected(connections, host) for _ in range(20)))

        assert {await runner.check("hostname") for runner in runners} == {f"{FAR}\n"}
    log = machines.ssh("root", NEAR, "journalctl -u ssh -o cat --no-pager")
    assert log.count("Accepted publickey for plain") == before + 1


async def test_a_real_agent_and_a_locked_key(machines: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key with a passphrase: through an agent for us and for `ssh`; without one, asked for and through asyncssh."""
    locked = tmp_path / "locked"
    locked.write_bytes(KEY.read_bytes())
    locked.chmod(0o600)
    (tmp_path / "source").write_bytes(b"data")
    sock = tmp_path / "agent"
    agent = await asyncio.create_subprocess_exec("ssh-agent", "-D", "-a", sock, stdout=subprocess.DEVNULL)
    await until(sock.exists)
    environ = {**os.environ, "SSH_AUTH_SOCK": str(sock)}
    subprocess.run(["ssh-add", "-q", locked], env=environ, check=True)  # noqa: ASYNC221  takes milliseconds
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "open", "-f", locked], check=True)  # noqa: ASYNC221  too
    host = Host(NEAR, address(NEAR), user="ops", identity=locked)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(sock))
        async with connecting(tmp_path) as connections:
            runner = await connected(connections, host)
            await runner.put(tmp_path / "source", "/home/ops/agent")
            assert runner.ssh_command()
        monkeypatch.delenv("SSH_AUTH_SOCK")
        async with connecting(tmp_path, password="open") as connections:
            runner = await connected(connections, host)
            await runner.put(tmp_path / "source", "/home/ops/agent")
            assert await runner.check("cat agent") == "datadata"
    finally:
        agent.terminate()
        await agent.wait()


# Copies


@pytest.mark.parametrize("way", ["openssh", "asyncssh"])
@pytest.mark.parametrize("user", ["ops", "pat"])
async def test_put_of_fifty_megabytes(machines: Hosts, tmp_path: Path, way: str, user: str) -> None:
    """Through the bastion, as root where sudo wants a password: every byte, and over OpenSSH next to none of our CPU."""
    source = tmp_path / "source"
    source.write_bytes(os.urandom(50_000_000))
    jump = (f"ops@{address(NEAR)}",)
    async with connecting(tmp_path, openssh=None if way == "openssh" else "", password="lab") as connections:
        runner = await connected(connections, at(FAR, user, jump))
        await runner.check("rm -f /var/tmp/target", root=True)
        seen: list[int] = []
        before = os.times()
        await runner.put(source, "/var/tmp/target", root=True, progress=seen.append)
        used = os.times().user + os.times().system - before.user - before.system

        digest = (await runner.check("sha256sum /var/tmp/target; stat -c %U /var/tmp/target")).split()
        await runner.check("rm -f /var/tmp/target", root=True)
    assert digest[0] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert digest[2] == "root"
    assert seen[-1] == 50_000_000
    if way == "openssh":
        assert used < 0.3


@pytest.mark.parametrize("way", ["openssh", "asyncssh"])
async def test_a_put_that_is_cut_goes_on(machines: Hosts, tmp_path: Path, way: str) -> None:
    """A copy whose sshd is killed in the middle is lost, what arrived is there, and the rest can follow."""
    source = tmp_path / "source"
    source.write_bytes(os.urandom(30_000_000))
    machines.limit(NEAR, "80mbit")
    target = f"/home/ops/{way}"
    async with connecting(tmp_path, openssh=None if way == "openssh" else "") as connections:
        runner = await connected(connections, at(NEAR, "ops"))
        seen: list[int] = []
        copy = asyncio.create_task(runner.put(source, target, progress=seen.append))
        await until(lambda: seen and seen[-1] > 6_000_000)
        await asyncio.to_thread(machines.ssh, "root", NEAR, "pkill -KILL -u ops sshd-session")
        with pytest.raises(ConnectionLost, match=rf"{NEAR}: the connection was (cut|lost).*while copying to {target}"):
            await copy
        machines.limit(NEAR, "none")

        again = await connected(connections, at(NEAR, "ops"))
        arrived = int(await again.check(f"stat -c %s {target}"))
        assert 0 < arrived < 30_000_000
        await again.put(source, target, offset=arrived)
        digest = (await again.check(f"sha256sum {target}")).split()[0]
    assert digest == hashlib.sha256(source.read_bytes()).hexdigest()


async def test_ssh_reads_our_configuration_as_we_mean_it(machines: Hosts, tmp_path: Path) -> None:
    """`ssh -G` gives back what was resolved, also with spaces and percent signs in the path of a key."""
    key = tmp_path / "a %h key"
    key.write_bytes(KEY.read_bytes())
    key.chmod(0o600)
    async with connecting(tmp_path) as connections:
        runner = await connected(connections, Host(NEAR, address(NEAR), user="ops", identity=key))
        words = runner.ssh_command()
        read = await asyncio.to_thread(subprocess.check_output, [words[0], "-G", *words[1:]], text=True)
        done = await asyncio.to_thread(subprocess.check_output, [*words, "hostname"], text=True)

    assert {f"hostname {address(NEAR)}", "user ops", "batchmode yes", "forwardagent no"} <= set(read.splitlines())
    assert "\nciphers aes128-gcm@openssh.com,aes256-gcm@openssh.com," in read
    assert done == f"{NEAR}\n"


# Tunnels


@pytest.mark.parametrize("way", ["openssh", "asyncssh"])
async def test_a_tunnel_survives_a_restart_of_sshd(machines: Hosts, tmp_path: Path, way: str) -> None:
    """When sshd is restarted and its sessions are killed the tunnel is down for a moment, then up by itself."""
    path = tmp_path / "tunnel.sock"
    with listening(NEAR):
        async with connecting(tmp_path, openssh=None if way == "openssh" else "") as connections:
            tunnel = Tunnel(connections, at(NEAR, "ops"), PORT, path)
            task = asyncio.create_task(tunnel.run())
            await until(lambda: tunnel.up)
            assert await ask(path) == b"answer to ping\n"

            await asyncio.to_thread(
                machines.ssh, "root", NEAR, "systemctl restart ssh; pkill -KILL -u ops sshd-session"
            )
            await until(lambda: not tunnel.up)
            assert tunnel.problem.startswith(f"{NEAR}: the tunnel to port {PORT} broke")
            await until(lambda: tunnel.up)
            assert await ask(path) == b"answer to ping\n"

            task.cancel()
            await asyncio.wait({task})
    assert not path.exists()


@pytest.mark.parametrize("way", ["openssh", "asyncssh"])
async def test_a_tunnel_over_a_cut_link_heals(machines: Hosts, tmp_path: Path, way: str) -> None:
    """A link that goes dark is noticed within 20 s and told; when it is back the tunnel is up again."""
    path = tmp_path / "tunnel.sock"
    with listening(NEAR):
        async with connecting(tmp_path, openssh=None if way == "openssh" else "") as connections:
            tunnel = Tunnel(connections, at(NEAR, "ops"), PORT, path)
            task = asyncio.create_task(tunnel.run())
            await until(lambda: tunnel.up)
            try:
                machines.cut(NEAR)
                await until(lambda: not tunnel.up, 20)
            finally:
                machines.heal(NEAR)
            await until(lambda: tunnel.up)
            assert await ask(path) == b"answer to ping\n"
            task.cancel()
            await asyncio.wait({task})


async def test_a_tunnel_ends_with_its_owner(machines: Hosts, tmp_path: Path) -> None:
    """Our process is killed without a chance to clean up; its `ssh` is gone a moment later, on both machines."""
    script = f"""
import asyncio
from pathlib import Path
from olladist.inventory.model import Host
from olladist.ssh.connections import Connections
from olladist.ssh.tunnel import Tunnel
async def main():
    async with Connections(accept_new=True, state=Path({str(tmp_path / "state")!r})) as connections:
        host = Host({NEAR!r}, {address(NEAR)!r}, user="ops", identity=Path({str(KEY)!r}))
        tunnel = Tunnel(connections, host, {PORT}, Path({str(tmp_path / "tunnel.sock")!r}))
        task = asyncio.create_task(tunnel.run())
        while not tunnel.up:
            await asyncio.sleep(0.02)
        print("up", flush=True)
        await task
asyncio.run(main())
"""

    def ours() -> list[int]:
        found = []
        for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = cmdline.read_bytes()
            except OSError:
                continue
            if b"ssh\0-F\0" in words and str(tmp_path).encode() in words:
                found.append(int(cmdline.parent.name))
        return found

    owner = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=subprocess.PIPE)
    assert owner.stdout
    assert await owner.stdout.readline() == b"up\n"
    assert len(ours()) == 1
    owner.send_signal(signal.SIGKILL)
    await owner.wait()

    await until(lambda: not ours(), 5)
    await until(lambda: machines.ssh("root", NEAR, "pgrep -u ops -x cat || true") == "", 5)
