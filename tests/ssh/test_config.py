from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.errors import Unreachable
from olladist.inventory.model import Host
from olladist.ssh.config import Hop, SshConfig, Target, parse_hop


@pytest.fixture
def say(home: Path) -> Path:
    """The operator's ~/.ssh/config."""
    return home / ".ssh" / "config"


def route(host: Host) -> tuple[Target, ...]:
    return SshConfig().route(host)


def test_without_a_configuration_ssh_defaults_count(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Port 22, our own user name, the usual key files, the agent of the environment."""
    monkeypatch.setenv("LOGNAME", "operator")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    (target,) = route(Host("gpu1", "198.51.100.11"))

    assert (target.address, target.port, target.user) == ("198.51.100.11", 22, "operator")
    assert target.identities == tuple(home / ".ssh" / name for name in ("id_ed25519", "id_ecdsa", "id_rsa"))
    assert target.agent == "/run/agent"
    assert target.known_hosts[0] == home / ".ssh" / "known_hosts"
    assert Path("/etc/ssh/ssh_known_hosts") in target.known_hosts


def test_what_the_configuration_says_is_done(say: Path, home: Path) -> None:
    """Every option that says where a host is and how to log in there."""
    say.write_text("""
        Host gpu1
            HostName 198.51.100.11
            User ops
            Port 2222
            IdentityFile ~/.ssh/fleet
            IdentityFile /keys/%h
            IdentitiesOnly yes
            IdentityAgent ~/agent.sock
            CertificateFile ~/.ssh/fleet-cert.pub
            HostKeyAlias fleet
            UserKnownHostsFile ~/.ssh/fleet_%k /etc/fleet_%h
            GlobalKnownHostsFile none
            ConnectTimeout 3
            Ciphers aes256-gcm@openssh.com
        Host *
            User somebody
            Port 1
    """)
    (target,) = route(Host("one", "gpu1"))

    assert target == Target(
        address="198.51.100.11",
        port=2222,
        user="ops",
        alias="fleet",
        identities=(home / ".ssh" / "fleet", Path("/keys/198.51.100.11")),
        certificates=(home / ".ssh" / "fleet-cert.pub",),
        identities_only=True,
        identities_declared=True,
        agent=str(home / "agent.sock"),
        known_hosts=(home / ".ssh" / "fleet_fleet", Path("/etc/fleet_198.51.100.11")),
        connect_timeout=3,
        algorithms=(("Ciphers", "aes256-gcm@openssh.com"),),
    )


def test_the_inventory_comes_before_the_configuration(say: Path) -> None:
    """User, port, key and jump host of the inventory win; the rest is taken from ~/.ssh/config."""
    say.write_text("Host gpu1\n HostName h\n User a\n Port 1\n IdentityFile /k\n ProxyJump x\n HostKeyAlias alias\n")
    hop, target = route(Host("gpu1", "gpu1", user="ops", port=2222, identity=Path("/fleet"), jump=("b@bastion:23",)))

    assert (target.address, target.user, target.port, target.alias) == ("h", "ops", 2222, "alias")
    assert target.identities == (Path("/fleet"), Path("/k"))
    assert (hop.user, hop.address, hop.port) == ("b", "bastion", 23)
    assert Path("/fleet") in hop.identities


def test_match_and_include_are_followed(say: Path) -> None:
    """Match blocks count where they match, also `final`; included files as if they stood there."""
    (say.parent / "more").write_text("Host gpu*\n  Port 2022\n")
    say.write_text("""
        Include more
        Match host gpu1 user ops
            IdentityFile /ops
        Match host other
            IdentityFile /other
        Host gpu1
            HostName gpu1.example
        Match final host *.example
            HostKeyAlias final
    """)
    (target,) = route(Host("gpu1", "gpu1", user="ops"))

    assert (target.address, target.port, target.identities) == ("gpu1.example", 2022, (Path("/ops"),))
    assert target.alias == "final"


def test_jump_chains_are_resolved_hop_by_hop(say: Path) -> None:
    """Every hop has its own entry; the first one's own ProxyJump comes before it, as with ssh."""
    say.write_text("""
        Host gpu1
            ProxyJump outer,me@inner:2222
        Host outer
            HostName outer.example
            ProxyJump gate
        Host inner
            ProxyJump never
            User ignored
        Host gate
            User guard
    """)
    hops = route(Host("gpu1", "gpu1", user="ops"))

    assert [(hop.user, hop.address, hop.port) for hop in hops[:1]] == [("guard", "gate", 22)]
    assert [str(hop) for hop in hops[2:]] == ["me@inner:2222", "ops@gpu1"]
    assert hops[1].address == "outer.example"


def test_proxy_jump_none_is_none(say: Path) -> None:
    """A host may be taken out of a general ProxyJump."""
    say.write_text("Host gpu1\n  ProxyJump none\nHost *\n  ProxyJump bastion\n")

    assert len(route(Host("gpu1", "gpu1"))) == 1


def test_jumps_in_circles_are_an_error(say: Path) -> None:
    """Two hosts that jump over each other are named, and nothing hangs."""
    say.write_text("Host a\n ProxyJump b\nHost b\n ProxyJump a\n")
    with pytest.raises(Unreachable, match=r"in circles: a -> b -> a"):
        route(Host("a", "a"))


def test_a_broken_configuration_names_file_and_line(say: Path) -> None:
    """The operator can go to the line."""
    say.write_text("Host *\n  User ops\n  Port many\n")
    with pytest.raises(Unreachable, match=rf"gpu1: {say}:3: Invalid Port integer value: many") as caught:
        route(Host("gpu1", "gpu1"))

    assert "ssh -G" in caught.value.hint


def test_a_configuration_that_cannot_be_read_is_an_error(say: Path) -> None:
    """With a file given by name, its absence is told; it is not passed over."""
    with pytest.raises(Unreachable, match="No such file"):
        SshConfig(say.parent / "nothing").route(Host("gpu1", "gpu1"))


def test_a_proxy_command_gives_way_to_a_jump_host(say: Path) -> None:
    """One way to a host; the inventory's."""
    say.write_text("Host gpu1\n  ProxyCommand nc %h %p\n")

    assert route(Host("gpu1", "gpu1"))[0].proxy_command == "nc gpu1 22"
    assert route(Host("gpu1", "gpu1", jump=("bastion",)))[-1].proxy_command is None


@pytest.mark.parametrize(
    ("value", "agent"), [("none", None), ("/run/a", "/run/a"), ("SSH_AUTH_SOCK", "/env"), ("$OTHER", "/other")]
)
def test_the_agent_is_the_one_that_is_named(
    say: Path, monkeypatch: pytest.MonkeyPatch, value: str, agent: str | None
) -> None:
    """IdentityAgent: none, a path, SSH_AUTH_SOCK or another variable."""
    monkeypatch.setenv("SSH_AUTH_SOCK", "/env")
    monkeypatch.setenv("OTHER", "/other")
    say.write_text(f"Host *\n  IdentityAgent {value}\n")

    assert route(Host("gpu1", "gpu1"))[0].agent == agent


@pytest.mark.parametrize(
    ("text", "hop"),
    [
        ("bastion", Hop("bastion")),
        ("me@bastion:2222", Hop("bastion", "me", 2222)),
        ("[2001:db8::1]:22", Hop("2001:db8::1", None, 22)),
        ("ssh://me@bastion:22/", Hop("bastion", "me", 22)),
        ("me@corp@bastion", Hop("bastion", "me@corp")),
    ],
)
def test_hops_are_read_as_ssh_reads_them(text: str, hop: Hop) -> None:
    """[user@]host[:port], also in brackets and as a URI."""
    assert parse_hop(text) == hop


@given(st.text(max_size=30))
def test_what_is_no_hop_is_a_value_error(text: str) -> None:
    """Any text is a hop with a host and a port that exist, or a ValueError."""
    try:
        hop = parse_hop(text)
    except ValueError:
        return
    assert hop.host
    assert hop.port is None or 0 < hop.port < 65536


def test_a_jump_that_is_no_host_is_told() -> None:
    """Also where it comes from the inventory."""
    with pytest.raises(Unreachable, match="is not "):
        route(Host("gpu1", "gpu1", jump=("a:b:c",)))
