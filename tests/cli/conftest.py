"""People and a fleet for the tests of commands."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from olladist.sim import gguf
from olladist.sim.hosts import ThrowawayHosts, free_ports
from olladist.sim.release import pack_simulated
from tests.cli.person import Person

SENTENCE = "Blue light scatters more than red."
MODEL = """
[models."acme/tiny:v1"]
source = "tiny.gguf"
on = "*"
"""


@pytest.fixture
def person(tmp_path: Path) -> Person:
    home = tmp_path / "home"
    home.mkdir()
    return Person(home)


def release_for(person: Person) -> str:
    """The name of a release of the simulated Ollama beside the person's inventory."""
    return pack_simulated(person.home).name


@dataclass
class Fleet:
    """Two hosts over SSH and this machine as a third; all of them are up, with the model, when a test gets them."""

    person: Person
    hosts: ThrowawayHosts
    inventory: str


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    person = Person(folder / "home")
    person.home.mkdir()
    gguf.write(person.home / "tiny.gguf", SENTENCE)
    with ThrowawayHosts(folder / "hosts", ["gpu1", "gpu2"]) as hosts:
        [port, gateway] = free_ports(2)
        inventory = hosts.inventory().replace("[fleet]", f'[fleet]\nollama = "./{release_for(person)}"')
        inventory += f'\n[hosts.here]\nconnection = "local"\ninstances = [{{ port = {port} }}]\n'
        inventory += f'{MODEL}\n[gateway]\nlisten = "127.0.0.1:{gateway}"\n'
        person.write(inventory)
        person.out("up", "--yes", "--accept-new")
        yield Fleet(person, hosts, inventory)
        person.out("--limit", "here", "down", "--yes")
