"""Throw-away hosts: what a login finds, what it can do, and what is left after a power cut."""

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import pytest

from olladist.sim.hosts import Host, ThrowawayHosts, listens, usable_sshd


def doors() -> list[bool]:
    """With our own server always; with OpenSSH's where this machine has one that this user may run."""
    config = "Port 22\nListenAddress 127.0.0.1\nPidFile none\nUsePAM no\n"
    # In a folder of its own: several processes collect tests at once, and must find the same.
    with tempfile.TemporaryDirectory(prefix="olladist-probe-") as folder:
        key = Path(folder) / "key"
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(key)
        key.chmod(0o600)
        return [False, True] if usable_sshd(Path(folder), f"{config}HostKey {key}\n") else [False]


@pytest.fixture(params=doors(), ids=lambda openssh: "openssh" if openssh else "asyncssh")
def hosts(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ThrowawayHosts]:
    with ThrowawayHosts(
        tmp_path / "fleet", ["a", "b"], environ={"SIM_TOKENS_PER_SECOND": "7"}, openssh=request.param
    ) as made:
        yield made


@asynccontextmanager
async def login(hosts: ThrowawayHosts, name: str) -> AsyncIterator[asyncssh.SSHClientConnection]:
    async with asyncssh.connect(
        "127.0.0.1",
        hosts.hosts[name].port,
        client_keys=[hosts.identity],
        known_hosts=([str(hosts.hosts[name].folder / "host_key.pub")], [], []),
        config=None,
        agent_path=None,
    ) as connection:
        yield connection


async def run(hosts: ThrowawayHosts, name: str, script: str, stdin: str = "") -> asyncssh.SSHCompletedProcess:
    async with login(hosts, name) as connection:
        return await connection.run(script, input=stdin)


async def output(hosts: ThrowawayHosts, name: str, script: str, stdin: str = "") -> str:
    done = await run(hosts, name, script, stdin)
    assert done.exit_status == 0, done.stderr
    return str(done.stdout)


async def test_a_login_lands_in_the_hosts_own_home(hosts: ThrowawayHosts) -> None:
    """Directory and environment are the host's, and what is written stays there."""
    home = hosts.hosts["a"].home
    said = await output(hosts, "a", 'pwd; echo "$HOME $SIM_NAME $SIM_TOKENS_PER_SECOND $OLLADIST_DEMO_HOST"')
    await output(hosts, "a", "cat >> f", "x" * 300_000)

    assert said.split() == [str(home), str(home), "a", "7", str(home.parent)]
    assert (home / "f").stat().st_size == 300_000
    assert not (hosts.hosts["b"].home / "f").exists()


async def test_there_is_no_root_and_no_systemd(hosts: ThrowawayHosts) -> None:
    """Whoever runs the tests."""
    assert (
        await output(hosts, "a", "[ $(id -u) != 0 ] && ! sudo -n true && ! systemctl is-system-running; echo $?")
        == "0\n"
    )


async def test_commands_end_as_they_end(hosts: ThrowawayHosts) -> None:
    """With their status and both outputs, whole."""
    done = await run(hosts, "a", "seq 20000; echo err >&2; exit 7")

    assert (done.exit_status, done.stderr) == (7, "err\n")
    assert str(done.stdout).splitlines() == [str(number) for number in range(1, 20001)]


async def test_ports_of_the_loopback_are_forwarded(hosts: ThrowawayHosts) -> None:
    """To whatever listens there."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hi")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server, login(hosts, "a") as connection:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await connection.open_connection("127.0.0.1", port)
        said = await reader.read()
        writer.close()

    assert said == b"hi"


async def test_a_power_cut_leaves_nothing_and_the_host_comes_back(hosts: ThrowawayHosts) -> None:
    """What was started apart from the login dies too; port, keys and files are the same afterwards."""
    host = hosts.hosts["b"]
    await output(hosts, "b", "echo kept > f; setsid sleep 300 >/dev/null 2>&1 </dev/null & echo $! > pid")
    pid = int((host.home / "pid").read_text())
    hosts.kill("b")

    assert not listens(host.port)
    assert listens(hosts.hosts["a"].port)
    assert not alive(pid)
    hosts.start("b")
    assert await output(hosts, "b", "cat f") == "kept\n"


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX"


def test_an_inventory_names_them_all(hosts: ThrowawayHosts) -> None:
    """Address, port, key and the ports of their Ollamas, as olladist takes them."""
    text = hosts.inventory(comment="ours")

    assert text.startswith("# ours\n")
    for host in hosts.hosts.values():
        assert f"[hosts.{host.name}]" in text
        assert f"port = {host.port}\n" in text
        assert f"{{ port = {host.instances[0]} }}" in text


def test_the_program_serves_until_its_input_ends(tmp_path: Path) -> None:
    """Prints an inventory, closes its output, and takes every host along when it goes."""
    words = [sys.executable, "-m", "olladist.sim.hosts", "2", str(tmp_path / "fleet")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        text = program.stdout.read()
        ports = [int(line.removeprefix("port = ")) for line in text.splitlines() if line.startswith("port = ")]
        up = [listens(port) for port in ports]
        program.stdin.close()

        assert program.wait(10) == 0
    assert up == [True, True]
    assert not any(listens(port) for port in ports)


def test_leaving_kills_them_whatever_happened(tmp_path: Path) -> None:
    """An error inside is no reason to leave servers behind."""
    kept: list[Host] = []

    class Trouble(Exception):
        pass

    def fail(hosts: ThrowawayHosts) -> None:
        kept.extend(hosts.hosts.values())
        raise Trouble

    hosts = ThrowawayHosts(tmp_path / "fleet", ["a"])
    with pytest.raises(Trouble), hosts:
        fail(hosts)

    assert not listens(kept[0].port)


def test_no_port_is_given_to_two_processes() -> None:
    """However many ask at once, and none of them may be taken by a connection meanwhile."""
    script = (
        "import sys; from olladist.sim.hosts import free_ports; print(*free_ports(150), flush=True); sys.stdin.read()"
    )
    asking = [
        subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    given: list[str] = []
    for process in asking:
        assert process.stdout
        given += process.stdout.readline().split()
    for process in asking:
        process.communicate(timeout=20)

    assert len(given) == len(set(given)) == 4 * 150
    assert max(map(int, given)) < 32768
