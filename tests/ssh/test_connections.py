import asyncio
import base64
import socket
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.errors import ConnectionLost, HostError, HostKeyRefused, Unreachable
from olladist.inventory.model import Connection, Host, HostKeys
from olladist.ssh.connections import STARTS, Connections, pause_before
from olladist.ssh.local import LocalRunner
from olladist.ssh.prompts import Prompts


class Person:
    """Answers every question about a host key with `answer`."""

    def __init__(self, *, answer: bool) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, str, str]] = []
        self.talking = 0

    async def __call__(self, host: str, address: str, key_type: str, fingerprint: str) -> bool:
        self.talking += 1
        assert self.talking == 1, "two questions at once"
        await asyncio.sleep(0)
        self.asked.append((host, address, key_type, fingerprint))
        self.talking -= 1
        return self.answer


def line(sshd: Any, key: asyncssh.SSHKey | None = None) -> str:
    shown = (key or sshd.key).convert_to_public()
    return f"[127.0.0.1]:{sshd.port} {shown.get_algorithm()} {base64.b64encode(shown.public_data).decode()}\n"


# Host keys


async def test_an_unknown_key_is_shown_and_remembered(sshd: Any, tmp_path: Path, identity: Path) -> None:
    """The question has the fingerprint; after a yes nobody asks again, and the file is ours alone."""
    person = Person(answer=True)
    for _ in range(2):
        async with Connections(prompts=Prompts(person), state=tmp_path / "state") as connections:
            assert await (await connections.runner(sshd.host())).check("echo in") == "in\n"

    address = f"[127.0.0.1]:{sshd.port}"
    assert person.asked == [("gpu1", address, "ssh-ed25519", sshd.key.convert_to_public().get_fingerprint())]
    file = tmp_path / "state" / "known_hosts"
    assert file.read_text() == line(sshd)
    assert file.stat().st_mode & 0o777 == 0o600


async def test_a_no_refuses_the_host(sshd: Any, tmp_path: Path, identity: Path) -> None:
    """Nothing is remembered, nobody logs in, and the error says how to compare the fingerprint."""
    person = Person(answer=False)
    async with Connections(prompts=Prompts(person), state=tmp_path / "state") as connections:
        with pytest.raises(HostKeyRefused, match=r"SHA256:\S+ was not accepted") as caught:
            await connections.runner(sshd.host())

    assert "ssh-keygen -lf" in caught.value.hint
    assert not (tmp_path / "state" / "known_hosts").exists()
    assert sshd.tried == []


@pytest.mark.parametrize("policy", [HostKeys.STRICT, HostKeys.ASK])
async def test_without_a_person_an_unknown_key_is_refused(
    sshd: Any, tmp_path: Path, identity: Path, policy: HostKeys
) -> None:
    """Strict asks nobody; ask with nobody there is a no."""
    async with Connections(state=tmp_path / "state") as connections:
        with pytest.raises(HostKeyRefused):
            await connections.runner(sshd.host(host_keys=policy))


async def test_accept_new_takes_it_without_a_question(sshd: Any, tmp_path: Path, identity: Path) -> None:
    """As the inventory's host_keys = "accept-new" says; it is remembered, so that a change is noticed."""
    person = Person(answer=False)
    async with Connections(prompts=Prompts(person), state=tmp_path / "state") as connections:
        await connections.runner(sshd.host(host_keys=HostKeys.ACCEPT_NEW))

    assert person.asked == []
    assert (tmp_path / "state" / "known_hosts").read_text() == line(sshd)


@pytest.mark.parametrize("policy", list(HostKeys))
async def test_a_changed_key_is_always_refused(
    sshd: Any, tmp_path: Path, home: Path, identity: Path, policy: HostKeys
) -> None:
    """Whatever the policy, and whoever would say yes; the error names file and line, and the command that removes it."""
    other = asyncssh.generate_private_key("ssh-ed25519")
    known = home / ".ssh" / "known_hosts"
    known.write_text("# first line\n" + line(sshd, other))
    person = Person(answer=True)
    async with Connections(prompts=Prompts(person), accept_new=True, state=tmp_path / "state") as connections:
        with pytest.raises(HostKeyRefused, match=rf"has changed.*{known}:2 has another") as caught:
            await connections.runner(sshd.host(host_keys=policy))

    assert f"ssh-keygen -f {known} -R '[127.0.0.1]:{sshd.port}'" in caught.value.hint
    assert person.asked == []
    assert sshd.tried == []


async def test_another_type_of_key_is_a_changed_one(sshd: Any, tmp_path: Path, home: Path, identity: Path) -> None:
    """A host that was known by an ECDSA key and shows only another type now is not taken for a new one."""
    other = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    (home / ".ssh" / "known_hosts").write_text(line(sshd, other))
    async with Connections(accept_new=True, state=tmp_path / "state") as connections:
        with pytest.raises(HostKeyRefused, match="has changed"):
            await connections.runner(sshd.host())


async def test_a_revoked_key_is_refused(sshd: Any, tmp_path: Path, home: Path, identity: Path) -> None:
    """Also where the key is known beside."""
    known = home / ".ssh" / "known_hosts"
    known.write_text(line(sshd) + "@revoked * " + line(sshd).split(" ", 1)[1])
    async with Connections(accept_new=True, state=tmp_path / "state") as connections:
        with pytest.raises(HostKeyRefused, match=r"revoked"):
            await connections.runner(sshd.host())


async def test_a_certified_host_is_taken_by_its_authority(
    sshd: Any, tmp_path: Path, home: Path, identity: Path
) -> None:
    """@cert-authority decides about host certificates; another authority's are refused."""
    authority = asyncssh.generate_private_key("ssh-ed25519")
    certificate = authority.generate_host_certificate(sshd.key, "gpu1", principals=["127.0.0.1"])
    await sshd.stop()
    sshd.key = (sshd.key, certificate)
    await sshd.start()
    known = home / ".ssh" / "known_hosts"
    known.write_text("@cert-authority * " + authority.export_public_key().decode())
    async with Connections(state=tmp_path / "state") as connections:
        assert await (await connections.runner(sshd.host())).check("echo in") == "in\n"

    stranger = asyncssh.generate_private_key("ssh-ed25519")
    known.write_text("@cert-authority * " + stranger.export_public_key().decode())
    async with Connections(accept_new=True, state=tmp_path / "other") as connections:
        with pytest.raises(HostKeyRefused, match="Host CA key is not trusted"):
            await connections.runner(sshd.host())


async def test_many_new_hosts_are_asked_about_one_by_one(start_sshd: Any, tmp_path: Path, identity: Path) -> None:
    """Questions never overlap, and every host is asked about once."""
    hosts = [(await start_sshd(f"gpu{n}")).host(f"gpu{n}") for n in range(5)]
    person = Person(answer=True)
    async with Connections(prompts=Prompts(person), state=tmp_path / "state") as connections:
        await asyncio.gather(*(connections.runner(host) for host in hosts))

    assert sorted(host for host, *_ in person.asked) == [f"gpu{n}" for n in range(5)]


async def test_a_key_that_cannot_be_remembered_is_refused(sshd: Any, tmp_path: Path, identity: Path) -> None:
    """Without a place to remember it a key would be new each time, so the host is refused."""
    (tmp_path / "state").write_text("no directory")
    async with Connections(accept_new=True, state=tmp_path / "state") as connections:
        with pytest.raises(HostKeyRefused, match="cannot write"):
            await connections.runner(sshd.host())


# Jump hosts


async def test_one_connection_to_a_bastion_serves_all_behind_it(
    start_sshd: Any, connections: Connections, identity: Path
) -> None:
    """Six hosts through one bastion: one login there, one each behind it."""
    bastion = await start_sshd("bastion")
    hosts = [await start_sshd(f"gpu{n}") for n in range(6)]
    jump = (f"guard@127.0.0.1:{bastion.port}",)

    runners = await asyncio.gather(
        *(connections.runner(sshd.host(f"gpu{n}", jump=jump)) for n, sshd in enumerate(hosts))
    )

    assert [await runner.check("pwd") for runner in runners] == [f"{sshd.home}\n" for sshd in hosts]
    assert bastion.logins == 1


async def test_a_chain_of_bastions_is_gone_through(start_sshd: Any, connections: Connections) -> None:
    """Two hops, then the host; the first is shared by a host that needs only it."""
    outer, inner, target = [await start_sshd(name) for name in ("outer", "inner", "target")]
    hop = f"127.0.0.1:{outer.port}"

    far, near = await asyncio.gather(
        connections.runner(target.host("far", jump=(hop, f"127.0.0.1:{inner.port}"))),
        connections.runner(inner.host("near", jump=(hop,))),
    )

    assert await far.check("pwd") == f"{target.home}\n"
    assert await near.check("pwd") == f"{inner.home}\n"
    assert outer.logins == 1


async def test_every_hop_is_held_to_the_same_policy(
    start_sshd: Any, home: Path, tmp_path: Path, identity: Path
) -> None:
    """A bastion whose key has changed is refused like a host, in the name of the host that wants through."""
    bastion, target = await start_sshd("bastion"), await start_sshd("gpu1")
    (home / ".ssh" / "known_hosts").write_text(line(bastion, asyncssh.generate_private_key("ssh-ed25519")))
    hosts = [target.host(f"gpu{n}", jump=(f"127.0.0.1:{bastion.port}",)) for n in range(3)]
    async with Connections(accept_new=True, state=tmp_path / "state") as connections:
        problems = await asyncio.gather(*(connections.runner(host) for host in hosts), return_exceptions=True)

    assert [type(problem) for problem in problems] == [HostKeyRefused] * 3
    assert sorted(problem.host for problem in problems if isinstance(problem, HostError)) == ["gpu0", "gpu1", "gpu2"]
    assert target.connections == set()


async def test_a_bastion_that_was_lost_is_connected_again(start_sshd: Any, connections: Connections) -> None:
    """After a bastion has gone away and come back, the next host goes through it as before."""
    bastion, target = await start_sshd("bastion"), await start_sshd("gpu1")
    host = target.host(jump=(f"127.0.0.1:{bastion.port}",))
    runner = await connections.runner(host)
    await bastion.stop()
    with pytest.raises(ConnectionLost):
        await runner.run("true")

    await bastion.start()

    assert await (await connections.runner(host)).check("echo again") == "again\n"


async def test_a_bastion_that_cannot_reach_the_host_says_so(start_sshd: Any, connections: Connections) -> None:
    """The jump host's own words, and what to check on it."""
    bastion, target = await start_sshd("bastion"), await start_sshd("gpu1")
    await target.stop()
    host = target.host(jump=(f"127.0.0.1:{bastion.port}",))
    with pytest.raises(Unreachable, match=r"the jump host cannot connect.*through \S+@127.0.0.1:\d+"):
        await connections.runner(host)

    bastion.forwards = False
    with pytest.raises(Unreachable, match="the jump host forwards nothing") as caught:
        await connections.runner(host)
    assert "AllowTcpForwarding" in caught.value.hint


# Many at once


async def test_starts_at_once_are_bounded(sshd: Any, connections: Connections) -> None:
    """Thirty connections to one sshd: never more than eight that are not logged in yet."""
    runners = await asyncio.gather(*(connections.runner(sshd.host(f"gpu{n}")) for n in range(30)))

    assert len(runners) == 30
    assert sshd.most_starts <= STARTS


async def test_sessions_at_once_are_bounded(sshd: Any, connections: Connections) -> None:
    """Forty commands on one connection: never more than six sessions, which sshd allows."""
    runner = await connections.runner(sshd.host())

    await asyncio.gather(*(runner.run("cat", stdin=b"x") for _ in range(40)))

    assert sshd.most_sessions <= 6


async def test_being_dropped_before_the_login_is_tried_again(sshd: Any, connections: Connections) -> None:
    """sshd at its MaxStartups closes connections at random; two drops are got over."""
    sshd.drop = 2

    assert await (await connections.runner(sshd.host())).check("echo in") == "in\n"


async def test_being_dropped_for_good_is_told(sshd: Any, connections: Connections) -> None:
    """After three tries the error names what may be the reason."""
    sshd.drop = 100
    with pytest.raises(Unreachable, match="closed the connection before the login") as caught:
        await connections.runner(sshd.host())

    assert "MaxStartups" in caught.value.hint
    assert sshd.drop == 97


@given(st.integers(1, 5), st.floats(0, 1, exclude_max=True))
def test_pauses_grow_and_differ(attempt: int, chance: float) -> None:
    """The first try is at once; those after it wait about twice as long each time, never all alike."""
    assert pause_before(0, chance) == 0
    assert 0.25 * 2 ** (attempt - 1) <= pause_before(attempt, chance) <= 0.75 * 2 ** (attempt - 1)


# The rest


async def test_a_local_host_never_opens_ssh(tmp_path: Path) -> None:
    """connection = "local" needs no sshd, no key and no configuration."""
    async with Connections(state=tmp_path, ssh_config=Path("/nonexistent")) as connections:
        runner = await connections.runner(Host("laptop", "laptop", connection=Connection.LOCAL))

        assert isinstance(runner, LocalRunner)
        assert await runner.check("echo here") == "here\n"


async def test_the_end_closes_everything(start_sshd: Any, tmp_path: Path, identity: Path, until: Any) -> None:
    """After the context no host and no bastion has a connection of ours."""
    bastion, target = await start_sshd("bastion"), await start_sshd("gpu1")
    async with Connections(accept_new=True, state=tmp_path / "state") as connections:
        await connections.runner(target.host(jump=(f"127.0.0.1:{bastion.port}",)))
        await connections.runner(target.host())
        assert len(target.connections) == 2

    await until(lambda: not target.connections and not bastion.connections)


async def test_a_cancelled_connect_leaves_the_others_alone(
    start_sshd: Any, connections: Connections, until: Any
) -> None:
    """Who gives up while the bastion is being connected does not take it from the rest."""
    bastion, target = await start_sshd("bastion"), await start_sshd("gpu1")
    host = target.host(jump=(f"127.0.0.1:{bastion.port}",))
    first = asyncio.create_task(connections.runner(host))
    second = asyncio.create_task(connections.runner(host))
    await until(lambda: bastion.connections)

    first.cancel()

    assert await (await second).check("echo in") == "in\n"
    assert bastion.logins == 1


async def test_a_black_hole_is_a_timeout(tmp_path: Path) -> None:
    """A host that takes no packets is told within connect_timeout."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        async with Connections(state=tmp_path, connect_timeout=0.3) as connections:
            with pytest.raises(Unreachable, match=r"no answer from 127.0.0.1 port \d+ within 0.3 s") as caught:
                await connections.runner(Host("gpu1", "127.0.0.1", port=full.getsockname()[1]))
        for filler in fillers:
            filler.close()

    assert "firewall" in caught.value.hint


async def test_descriptors_do_not_leak(sshd: Any, tmp_path: Path, identity: Path) -> None:
    """Fifty connections, refused and accepted ones, leave no descriptor behind."""

    async def once() -> None:
        async with Connections(accept_new=True, state=tmp_path / "state", openssh="") as connections:
            runner = await connections.runner(sshd.host())
            await runner.check("true")
            with pytest.raises(Unreachable):
                await connections.runner(Host("gone", "127.0.0.1", port=1))

    await once()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        await once()

    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
