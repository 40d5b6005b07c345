"""What status concludes."""

from dataclasses import replace

from olladist.errors import HostError, Unreachable
from olladist.fleet.status import HostStatus, ServerStatus, judge
from olladist.fleet.vitals import ServerSign, Vitals
from olladist.host.api import Tag
from olladist.inventory.model import Inventory, Service
from tests.fleet.fleets import inventory

HOSTS = """
[defaults]
ollama = "0.17.4"
env = { OLLAMA_NUM_PARALLEL = 4 }
[hosts.a]
address = "a.example"
[hosts.b]
address = "b.example"
"""


def up(found: Inventory, name: str, *models: tuple[str, str], version: str = "0.17.4", slots: str = "4") -> HostStatus:
    host = found.hosts[name]
    sign = ServerSign(Service.SYSTEM, "active", {"OLLAMA_NUM_PARALLEL": slots})
    tags = tuple(Tag(model, digest) for model, digest in models)
    return HostStatus(
        host, Vitals({11434: sign}, (), "", 10**12), (ServerStatus(11434, "active", version, models=tags),)
    )


def test_a_host_that_is_as_declared_has_nothing_to_do() -> None:
    """No drift, and it works."""
    found = inventory(HOSTS)
    status = judge(found, {"a": up(found, "a")})

    assert status.drift("a") == ()
    assert up(found, "a").working


def test_another_version_and_another_setting_are_named() -> None:
    """What runs, and what was declared."""
    found = inventory(HOSTS)
    status = judge(found, {"a": up(found, "a", version="0.17.3", slots="1")})

    assert status.drift("a") == ("runs Ollama 0.17.3, declared 0.17.4", "OLLAMA_NUM_PARALLEL is 1, declared 4")


def test_an_ollama_of_somebody_else_is_told_from_none() -> None:
    """One that answers but is not set up by us, and none at all."""
    found = inventory(HOSTS)
    foreign = replace(up(found, "a"), vitals=Vitals({}, (), "", None))
    none = replace(foreign, servers=(ServerStatus(11434, "not installed", problem="no answer"),))

    assert judge(found, {"a": foreign}).drift("a") == ("not set up by olladist",)
    assert judge(found, {"a": none}).drift("a") == ("not installed",)


def test_a_model_that_is_missing_or_differs_is_named_where_it_is() -> None:
    """Names match as Ollama matches them; the version that most hosts have is the right one."""
    three = HOSTS + '[hosts.c]\naddress = "c.example"\n[models."Tiny"]\non = "*"\n'
    found = inventory(three)
    status = judge(
        found,
        {
            "a": up(found, "a", ("tiny:latest", "1")),
            "b": up(found, "b", ("tiny:latest", "2")),
            "c": up(found, "c", ("tiny:latest", "1")),
        },
    )
    lacking = judge(found, {"a": up(found, "a", ("tiny:v2", "1"))})

    assert [status.drift(host) for host in "abc"] == [
        (), ("Tiny:latest differs from that of the other hosts",), (),
    ]  # fmt: skip
    assert lacking.drift("a") == ("Tiny:latest is missing",)


def test_replicas_are_counted_over_the_fleet() -> None:
    """No host alone is to blame; one that cannot be reached counts as without, one that was not asked says nothing."""
    found = inventory(HOSTS + '[models."tiny"]\nreplicas = 2\n')
    gone: HostStatus | HostError = Unreachable("b", "connecting", "gone")
    status = judge(found, {"a": up(found, "a", ("tiny:latest", "1")), "b": gone})

    assert status.drift("a") == ()
    assert status.missing == ("tiny:latest: 2 replicas are declared, 1 is there",)
    assert judge(found, {"a": up(found, "a")}).missing == ()
