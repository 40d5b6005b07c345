"""Our own SSH server for throw-away hosts (what it shares with OpenSSH's is tested in test_hosts.py)."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import pytest

from olladist.sim.hosts import ThrowawayHosts


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[ThrowawayHosts]:
    with ThrowawayHosts(tmp_path / "fleet", ["a"], openssh=False) as made:
        yield made


@asynccontextmanager
async def login(hosts: ThrowawayHosts, key: Path) -> AsyncIterator[asyncssh.SSHClientConnection]:
    port = hosts.hosts["a"].port
    async with asyncssh.connect(
        "127.0.0.1", port, client_keys=[key], known_hosts=None, config=None, agent_path=None
    ) as connection:
        yield connection


async def test_signals_reach_the_command(hosts: ThrowawayHosts) -> None:
    """And its end by one is told."""
    async with login(hosts, hosts.identity) as connection:
        process = await connection.create_process("echo ready; exec sleep 60")
        assert await process.stdout.readline() == "ready\n"
        process.send_signal("TERM")
        await process.wait()

    assert process.exit_signal is not None
    assert process.exit_signal[0] == "TERM"


async def test_nobody_else_gets_in(hosts: ThrowawayHosts, tmp_path: Path) -> None:
    """A key that is not in authorized_keys is refused."""
    key = tmp_path / "other"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(key)
    key.chmod(0o600)

    with pytest.raises(asyncssh.PermissionDenied):
        async with login(hosts, key):
            raise AssertionError("let in")


async def test_only_the_loopback_is_reached(hosts: ThrowawayHosts) -> None:
    """A throw-away host is no way to anywhere else."""
    async with login(hosts, hosts.identity) as connection:
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_connection("192.0.2.1", 80)


async def test_files_can_be_sent(hosts: ThrowawayHosts, tmp_path: Path) -> None:
    """By SFTP, to the host's home."""
    (tmp_path / "f").write_bytes(b"x" * 100_000)
    async with login(hosts, hosts.identity) as connection, connection.start_sftp_client() as sftp:
        await sftp.put(str(tmp_path / "f"), "f")

    assert (hosts.hosts["a"].home / "f").read_bytes() == b"x" * 100_000


async def test_a_command_outlives_a_cut_connection(hosts: ThrowawayHosts) -> None:
    """As with sshd: what is running goes on, and finds that nobody listens."""
    async with login(hosts, hosts.identity) as connection:
        process = await connection.create_process("echo ready; read line; echo $line > after")
        assert await process.stdout.readline() == "ready\n"
        connection.abort()
    async with login(hosts, hosts.identity) as connection:
        done = await connection.run("until [ -e after ]; do sleep 0.05; done; echo there")

    assert done.stdout == "there\n"
