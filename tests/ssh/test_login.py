import asyncio
import socket
from pathlib import Path
from random import Random
from typing import Any

import asyncssh
import pytest

from olladist.errors import AuthRefused, ConnectionLost, HostError, Unreachable
from olladist.inventory.model import Host, HostKeys
from olladist.ssh.config import Target
from olladist.ssh.connections import Connections
from olladist.ssh.keyring import Keyring
from olladist.ssh.login import Login
from olladist.ssh.prompts import NO_PROMPTS, Prompts
from olladist.ssh.trust import Trust


class Secrets:
    """A person who answers with `answers`, one after the other, and then no more."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str]] = []

    async def __call__(self, host: str, what: str) -> str | None:
        self.asked.append((host, what))
        return self.answers.pop(0) if self.answers else None


async def test_a_login_uses_the_algorithms_we_chose(sshd: Any, connections: Connections) -> None:
    """The ciphers and key exchange of docs/concepts/ssh.md are those that are agreed on."""
    link = await connections.link(sshd.host())

    assert link.connection.get_extra_info("send_cipher") == "aes128-gcm@openssh.com"
    assert link.host_key == sshd.key.convert_to_public()
    assert link.identity
    assert link.identity.path


async def test_an_asked_for_cipher_is_used(sshd: Any, tmp_path: Path, identity: Path) -> None:
    """What ~/.ssh/config asks for wins over our choice; names that asyncssh does not have are passed over."""
    config = tmp_path / "config"
    config.write_text(
        "Ciphers no-such-cipher,aes256-ctr\nKexAlgorithms sntrup-new,curve25519-sha256\nMACs -hmac-sha1\nHostKeyAlgorithms +none\n"
    )
    async with Connections(accept_new=True, state=tmp_path / "state", ssh_config=config) as connections:
        link = await connections.link(sshd.host(identity=identity))

        assert link.connection.get_extra_info("send_cipher") == "aes256-ctr"


async def test_refused_keys_are_listed_with_what_to_try(sshd: Any, connections: Connections, identity: Path) -> None:
    """Who was refused, with which keys, and the commands that give it one or show more."""
    sshd.authorized.clear()
    with pytest.raises(AuthRefused, match=rf"gpu1: ops was refused; tried {identity} \(while logging in") as caught:
        await connections.runner(sshd.host())

    assert f"ssh-copy-id -i {identity} -p {sshd.port} ops@127.0.0.1" in caught.value.hint
    assert f"ssh -v -p {sshd.port} ops@127.0.0.1" in caught.value.hint


async def test_no_key_at_all_is_told(sshd: Any, connections: Connections, identity: Path) -> None:
    """An operator without keys learns that this is the reason."""
    identity.unlink()
    with pytest.raises(AuthRefused, match="no key at all"):
        await connections.runner(sshd.host())


async def test_a_file_that_is_no_key_is_told(sshd: Any, connections: Connections, identity: Path) -> None:
    """A damaged key file is named; it does not stop the others."""
    identity.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nnonsense\n")
    with pytest.raises(AuthRefused, match=rf"not readable: {identity} \("):
        await connections.runner(sshd.host())


async def test_a_locked_key_asks_for_its_passphrase_once(
    sshd: Any, tmp_path: Path, identity: Path, user_key: asyncssh.SSHKey
) -> None:
    """One question for all hosts that take the key; a wrong answer is asked again."""
    identity.write_bytes(user_key.export_private_key(passphrase="open", rounds=2, ignore_few_rounds=True))
    secrets = Secrets("wrong", "open")
    async with Connections(prompts=Prompts(secret=secrets), accept_new=True, state=tmp_path / "state") as connections:
        runners = await asyncio.gather(*(connections.runner(sshd.host(f"gpu{n}")) for n in range(3)))

        assert [await runner.check("echo in") for runner in runners] == ["in\n"] * 3
    assert [what for _, what in secrets.asked] == [f"passphrase of {identity}"] * 2


async def test_a_locked_key_without_an_answer_is_told(
    sshd: Any, connections: Connections, identity: Path, user_key: asyncssh.SSHKey
) -> None:
    """Without somebody to ask, the error says which key is locked and how an agent would help."""
    identity.write_bytes(user_key.export_private_key(passphrase="open", rounds=2, ignore_few_rounds=True))
    with pytest.raises(AuthRefused, match=rf"locked by a passphrase: {identity}") as caught:
        await connections.runner(sshd.host())

    assert f"ssh-add {identity}" in caught.value.hint


async def test_a_server_that_says_nothing_is_a_timeout(listening: Any, tmp_path: Path) -> None:
    """A port that takes connections and never answers does not hang us."""

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(silence) as server, Connections(state=tmp_path, login_timeout=0.2) as connections:
        with pytest.raises(Unreachable, match=r"the login did not end within 0.2 s"):
            await connections.runner(Host("gpu1", "127.0.0.1", port=server.port))


async def test_what_is_no_sshd_is_told(listening: Any, tmp_path: Path) -> None:
    """Somebody who names the port of a web server reads that it does not speak SSH."""

    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-1.0-old\r\n")
        await reader.read()

    async with listening(http) as server, Connections(state=tmp_path) as connections:
        with pytest.raises(Unreachable, match="does not speak SSH") as caught:
            await connections.runner(Host("gpu1", "127.0.0.1", port=server.port))

    assert "`port`" in caught.value.hint


async def test_no_algorithm_in_common_is_told(sshd: Any, tmp_path: Path, identity: Path) -> None:
    """An ancient sshd, or a narrow configuration, is named as the reason."""
    config = tmp_path / "config"
    config.write_text("HostKeyAlgorithms rsa-sha2-512\n")
    async with Connections(accept_new=True, state=tmp_path / "state", ssh_config=config) as connections:
        with pytest.raises(Unreachable, match="no algorithm in common"):
            await connections.runner(sshd.host(identity=identity))


async def test_a_proxy_command_is_run(sshd: Any, tmp_path: Path, identity: Path) -> None:
    """A host behind a ProxyCommand of ~/.ssh/config is reached through it; a missing program is told."""
    config = tmp_path / "config"
    relay = tmp_path / "relay.py"
    relay.write_text(
        "import socket, sys, threading, os\n"
        "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "def back():\n"
        "    while d := s.recv(65536): os.write(1, d)\n"
        "threading.Thread(target=back, daemon=True).start()\n"
        "while d := os.read(0, 65536): s.sendall(d)\n"
    )
    config.write_text(
        f"Host there\n HostName 127.0.0.1\n ProxyCommand python3 {relay} %h %p\nHost not\n ProxyCommand /no/such %h\n"
    )
    async with Connections(accept_new=True, state=tmp_path / "state", ssh_config=config) as connections:
        runner = await connections.runner(Host("there", "there", port=sshd.port, user="ops", identity=identity))
        assert await runner.check("echo through") == "through\n"

        with pytest.raises(Unreachable, match="cannot run the ProxyCommand"):
            await connections.runner(Host("not", "not", user="ops"))


async def test_an_agent_that_does_not_sign_is_told(
    sshd: Any, tmp_path: Path, user_key: asyncssh.SSHKey, agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key whose owner was asked by the agent and said no is one that was refused."""
    async with agent(user_key) as running:
        running.signs = False
        monkeypatch.setenv("SSH_AUTH_SOCK", str(running.path))
        async with Connections(accept_new=True, state=tmp_path / "state") as connections:
            with pytest.raises(AuthRefused, match="tried fleet@laptop of the agent"):
                await connections.runner(sshd.host())


async def test_any_answer_of_a_server_is_a_host_error(listening: Any, tmp_path: Path) -> None:
    """Whatever bytes come after the greeting, whole packets or not, they end in a HostError."""
    random = Random(11)  # noqa: S311  the same each time
    answers: list[bytes] = []
    for _ in range(80):
        body = bytes([random.choice([1, 2, 4, 20, 31, 50, random.randrange(256)])]) + random.randbytes(
            random.randrange(300)
        )
        pad = 16 - (len(body) + 5) % 8
        packet = (len(body) + pad + 1).to_bytes(4) + bytes([pad]) + body + bytes(pad)
        answers.append(random.choice([random.randbytes(200), packet, packet + random.randbytes(50)]))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_10.0\r\n")
        await reader.readline()
        writer.write(answers.pop())
        await writer.drain()

    trust = Trust(tmp_path / "known_hosts", NO_PROMPTS, accept_new=True)
    login = Login(trust, Keyring(NO_PROMPTS), connect_timeout=1, login_timeout=1)
    async with listening(answer) as server:
        while answers:
            with pytest.raises(HostError):
                await login.open("gpu1", HostKeys.ASK, Target("127.0.0.1", server.port, "ops"), None)


async def test_an_impossible_user_is_told(sshd: Any, connections: Connections) -> None:
    """A user name that no SSH server can be told is an error here."""
    with pytest.raises(Unreachable, match="while connecting to"):
        await connections.link(Host("gpu1", "127.0.0.1", port=sshd.port, user="a\u0007b"))


async def test_a_connection_that_ends_during_the_login_is_told(tmp_path: Path) -> None:
    """A host that goes away after the key exchange began is lost, not refused."""
    listening = socket.create_server(("127.0.0.1", 0))
    key = asyncssh.generate_private_key("ssh-ed25519")

    class Leaving(asyncssh.SSHServer):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            self.conn = conn

        def begin_auth(self, username: str) -> bool:
            self.conn.abort()
            return True

    server = await asyncssh.listen(sock=listening, server_factory=Leaving, server_host_keys=[key], gss_host=None)
    async with server, Connections(accept_new=True, state=tmp_path) as connections:
        with pytest.raises(ConnectionLost, match="ended during the login"):
            await connections.runner(Host("gpu1", "127.0.0.1", port=server.get_port(), user="ops"))
