"""What goes wrong on real hosts: a message that names host, deed, cause and next step; the others finish; a second run repairs."""

import subprocess
from pathlib import Path

import pytest

from tests.lab.machines import KEY, Hosts, Operator, address
from tests.lab.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

GOOD, BROKEN, SMALL = "gpu31", "gpu32", "gpu33"


@pytest.fixture(scope="module")
def machines(hosts: Hosts) -> Hosts:
    hosts.up(GOOD)
    return hosts


@pytest.fixture
def fresh(machines: Hosts) -> Hosts:
    """The host that each test breaks, as new."""
    machines.up(BROKEN)
    return machines


def write(operator: Operator, release: Path | str, hosts: dict[str, str], fleet: str = "", extra: str = "") -> None:
    """An inventory of hosts (name to further lines), all as root with the lab's key."""
    text = f'[fleet]\nname = "lab"\nollama = "{release}"\n{fleet}\n'
    text += f'[defaults]\nuser = "root"\nidentity = "{KEY}"\nhost_keys = "accept-new"\n'
    for name, lines in hosts.items():
        place = "" if "address" in lines else f'address = "{address(name)}"\n'
        text += f"\n[hosts.{name}]\n{place}{lines}\n"
    (operator.home / "inventory.toml").write_text(text + extra)


def fails(operator: Operator, *words: str, status: int = 1) -> str:
    """Everything that an `olladist` command says which must end with `status`."""
    done = operator.run("olladist", *words)
    assert done.returncode == status, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def serves(hosts: Hosts, name: str) -> bool:
    return "0.17.4" in hosts.ssh("root", name, "curl -s http://127.0.0.1:11434/api/version || true")


def test_a_host_that_is_not_there_does_not_stop_the_others(
    fresh: Hosts, operator: Operator, ollama_release: Path
) -> None:
    """The report names it with its address and what to do; the other host is made as declared; the exit status is 1."""
    write(operator, ollama_release, {BROKEN: "", "gone": 'address = "198.18.0.250"'})

    said = fails(operator, "up", "--yes")

    assert "gone" in said
    assert "198.18.0.250" in said
    assert "hint:" in said
    assert serves(fresh, BROKEN)


def test_when_no_host_can_be_reached_the_exit_status_says_so(operator: Operator, ollama_release: Path) -> None:
    """Every host unreachable is exit status 3."""
    write(operator, ollama_release, {"gone": 'address = "198.18.0.250"', "lost": 'address = "198.18.0.251"'})

    assert "lost" in fails(operator, "up", "--yes", status=3)


def test_a_refused_login_says_what_was_tried(machines: Hosts, operator: Operator, ollama_release: Path) -> None:
    """A key that the host does not know ends in a message that names user, key and the command to mend it."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", operator.home / "other"], check=True)
    write(operator, ollama_release, {GOOD: f'identity = "{operator.home}/other"'})

    said = fails(operator, "plan")

    assert "root" in said
    assert "other" in said
    assert "ssh-copy-id" in said


def test_a_changed_host_key_is_refused_with_the_line_to_look_at(
    fresh: Hosts, operator: Operator, ollama_release: Path
) -> None:
    """A host that shows another key than before is not spoken to, whatever the inventory says."""
    write(operator, ollama_release, {BROKEN: ""})
    operator.olladist("plan")
    fresh.ssh("root", BROKEN, "rm /etc/ssh/ssh_host_*; ssh-keygen -A -q; systemctl restart ssh")

    said = fails(operator, "--limit", BROKEN, "up", "--yes", "--accept-new")

    assert "changed" in said
    assert "known_hosts:1" in said


def test_a_system_service_without_root_is_refused_with_the_way_out(
    machines: Hosts, operator: Operator, ollama_release: Path
) -> None:
    """service = "system" for a user without sudo is a problem of the plan that names both ways to go on."""
    write(operator, ollama_release, {GOOD: 'user = "plain"\nservice = "system"'})

    said = fails(operator, "up", "--yes")

    assert "sudo" in said
    assert GOOD in said


def test_a_full_disk_leaves_nothing_half_installed(machines: Hosts, operator: Operator, ollama_release: Path) -> None:
    """A host without room for the release says how much is missing; after room is made a second run installs."""
    machines.small(SMALL, "250m")
    machines.ssh("root", SMALL, "fallocate -l $(($(df --output=avail -B1 / | tail -1) - 9000000)) /filler")
    write(operator, ollama_release, {SMALL: ""})

    said = fails(operator, "up", "--yes")
    left = machines.ssh("root", SMALL, "ls /opt/olladist/releases 2>/dev/null; ls /usr/local/bin")
    machines.ssh("root", SMALL, "rm /filler")
    operator.olladist("up", "--yes")

    assert "space" in said or "disk" in said
    assert left.strip() == ""
    assert serves(machines, SMALL)


def test_a_truncated_tarball_touches_no_host(fresh: Hosts, operator: Operator, ollama_release: Path) -> None:
    """Half a release is refused before anything is sent."""
    half = operator.home / "ollama-linux-amd64.tar.zst"
    half.write_bytes(ollama_release.read_bytes()[:5_000_000])
    write(operator, half, {BROKEN: ""})

    said = fails(operator, "up", "--yes")

    assert "truncated" in said or "damaged" in said
    assert fresh.ssh("root", BROKEN, "ls /opt").strip() == ""


def test_a_wrong_checksum_touches_no_host(fresh: Hosts, operator: Operator, ollama_release: Path) -> None:
    """A tarball that is not the declared one is refused, with both sums."""
    checksums = f'checksums = {{ "ollama-linux-amd64.tar.zst" = "{"0" * 64}" }}\n'
    write(operator, ollama_release, {BROKEN: ""}, fleet=checksums)

    said = fails(operator, "up", "--yes")

    assert "0000000" in said
    assert fresh.ssh("root", BROKEN, "ls /opt").strip() == ""


def test_a_taken_port_names_who_has_it(fresh: Hosts, operator: Operator, ollama_release: Path) -> None:
    """A foreign process on Ollama's port blocks the plan and is named; once it is gone, `up` goes through."""
    listener = "use Socket; socket(S,PF_INET,SOCK_STREAM,0); bind(S,sockaddr_in(11434,INADDR_LOOPBACK)); listen(S,5); sleep 999"
    fresh.ssh("root", BROKEN, f"setsid -f perl -e '{listener}' >/dev/null 2>&1 </dev/null")
    wait_until(lambda: "11434" in fresh.ssh("root", BROKEN, "ss -ltn"), "the port is taken")
    write(operator, ollama_release, {BROKEN: "", GOOD: ""})

    said = fails(operator, "up", "--yes")
    fresh.ssh("root", BROKEN, "pkill -9 perl")
    operator.olladist("up", "--yes")

    assert "11434" in said
    assert "perl" in said
    assert serves(fresh, GOOD)
    assert serves(fresh, BROKEN)


def test_a_host_that_dies_in_the_middle_is_repaired_by_a_second_run(
    fresh: Hosts, operator: Operator, ollama_release: Path
) -> None:
    """With the plug pulled while the release is copied, the run ends with a message; the next one finishes the work."""
    write(operator, ollama_release, {BROKEN: ""})
    operator.olladist("plan")
    fresh.limit(BROKEN, "20mbit")
    up = subprocess.Popen(
        ["olladist", "up", "--yes"], cwd=operator.home, env=operator.environ, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    wait_until(
        lambda: "tar" in fresh.ssh("root", BROKEN, "ls /opt/olladist/stage 2>/dev/null || true"), "the copy has begun"
    )
    fresh.kill(BROKEN)
    said, _ = up.communicate(timeout=120)
    fresh.boot(BROKEN)
    operator.olladist("up", "--yes")

    assert up.returncode in {1, 3}
    assert BROKEN in said
    assert "hint:" in said
    assert serves(fresh, BROKEN)
    assert fresh.ssh("root", BROKEN, "ls -A /opt/olladist/stage 2>/dev/null || true").strip() == ""
