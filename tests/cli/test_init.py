"""`olladist init`."""

from olladist.inventory.parse import load
from tests.cli.person import Person


def test_it_writes_what_it_can_read(person: Person) -> None:
    """The file parses, has the machines in it, and the next step is said."""
    done = person.olladist("init", "ops@gpu1.example", "root@198.51.100.12:2222")

    hosts = load(person.home / "inventory.toml").hosts.values()
    assert [(host.user, host.address, host.port) for host in hosts] == [
        ("ops", "gpu1.example", None),
        ("root", "198.51.100.12", 2222),
    ]
    assert done.stderr.splitlines() == ["wrote inventory.toml with 2 hosts", "next: olladist plan"]
    assert done.stdout == ""


def test_it_never_overwrites_unless_told_to(person: Person) -> None:
    """What is there stays; --force writes anew; -i writes elsewhere."""
    person.write("precious")

    refused = person.olladist("init", "gpu1")
    kept = (person.home / "inventory.toml").read_text()
    elsewhere = person.olladist("-i", "other.toml", "init", "gpu1")
    forced = person.olladist("init", "--force", "gpu1")

    assert refused.returncode == 2
    assert "hint: --force overwrites it" in refused.stderr
    assert kept == "precious"
    assert (elsewhere.returncode, forced.returncode) == (0, 0)
    assert "next: olladist -i other.toml plan" in elsewhere.stderr
    assert "gpu1" in (person.home / "inventory.toml").read_text()


def test_without_arguments_it_takes_the_hosts_of_the_ssh_configuration(person: Person) -> None:
    """Patterns are no machines."""
    (person.home / ".ssh").mkdir()
    (person.home / ".ssh/config").write_text("Host gpu1 gpu2\n  User ops\nHost *.example\n  User root\n")

    document = person.document("init")

    assert document["hosts"] == ["gpu1", "gpu2"]
    assert list(load(person.home / "inventory.toml").hosts) == ["gpu1", "gpu2"]


def test_with_nothing_to_go_by_it_takes_this_machine(person: Person) -> None:
    """So that there is something to try."""
    done = person.olladist("init")

    assert "with 1 host: this machine" in done.stderr
    assert len(load(person.home / "inventory.toml").hosts) == 1


def test_what_is_no_machine_is_refused(person: Person) -> None:
    """Nothing is written."""
    done = person.olladist("init", "gpu1", "ops@gpu1:99999")

    assert done.returncode == 2
    assert "99999" in done.stderr
    assert not (person.home / "inventory.toml").exists()
