from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.control.backends import Backend
from olladist.gateway.control.models.targets import Placement, Store, Targets, placement, pull_targets
from olladist.inventory.model import Host
from tests.gateway.control.declarations import declaration

NAMES = tuple(f"gpu{n}" for n in range(1, 7))


def store(
    host: str, *, digest: str = "", size: int = 0, away: bool = False, drained: bool = False, models: str = ""
) -> Store:
    backend = Backend(int(host[3:]), host, Host(name=host, address=host), 11434, f"{host}:11434", 1)
    return Store(
        host, (host,), () if away else (backend,), digest, size, frozenset(models.split()), drained, "gone" * away
    )


def hosts(targets: Targets) -> tuple[list[str], list[str]]:
    return [store.host for store in targets.now], [store.host for store in targets.away]


fleets = st.lists(
    st.tuples(st.sampled_from(["", "a", "b"]), st.integers(0, 3), st.booleans(), st.booleans()), max_size=len(NAMES)
).map(
    lambda rows: [
        store(name, digest=digest, size=size, away=away, drained=drained)
        for name, (digest, size, away, drained) in zip(NAMES, rows, strict=False)
    ]
)


@given(fleets, st.integers(1, 4))
def test_a_pull_reaches_every_holder(fleet: list[Store], replicas: int) -> None:
    """Or one name would mean two contents; who cannot be asked is known."""
    targets = pull_targets(fleet, None, replicas)

    for held in fleet:
        if held.digest:
            assert held in (targets.now if held.backends else targets.away)
    assert all(target.backends for target in targets.now)
    assert not any(target.backends for target in targets.away)


@given(fleets, st.integers(1, 4))
def test_a_pull_makes_as_many_replicas_as_are_wanted(fleet: list[Store], replicas: int) -> None:
    """As far as there are hosts that get new work; never one more than that for a model nobody declared."""
    targets = pull_targets(fleet, None, replicas)
    live = [store for store in fleet if store.backends and (store.digest or not store.drained)]
    held = [store for store in live if store.digest]

    assert len(targets.now) == max(len(held), min(replicas, len(live)))
    new = [store for store in targets.now if not store.digest]
    others = [store for store in live if store not in targets.now]
    assert all(a.size <= b.size for a in new for b in others)


@given(fleets)
def test_a_model_that_is_declared_on_hosts_goes_to_them(fleet: list[Store]) -> None:
    """All of them, also drained ones and those that cannot be asked, and nobody else but holders."""
    targets = pull_targets(fleet, Placement(("gpu1", "gpu3")), 2)
    wanted = [store for store in fleet if store.digest or store.host in {"gpu1", "gpu3"}]

    assert [*targets.now, *targets.away] == [s for s in wanted if s.backends] + [s for s in wanted if not s.backends]


def test_replicas_are_chosen_among_the_hosts_declared() -> None:
    """One with fewer declared models comes first, then one with less in its store."""
    fleet = [
        store("gpu1", size=1, models="a b"),
        store("gpu2", size=9, models="a"),
        store("gpu3", size=5, models="a"),
        store("gpu4"),
    ]
    wanted = Placement(("gpu1", "gpu2", "gpu3"), 2)

    assert hosts(pull_targets(fleet, wanted, 1, declared=("a", "b"))) == (["gpu2", "gpu3"], [])


def test_the_inventory_says_where_a_declared_model_goes() -> None:
    """By any spelling of its name; of others it says nothing."""
    inventory = declaration(
        '[hosts.gpu1]\n[hosts.gpu2]\n[hosts.cpu1]\n[models.Tiny]\non = "gpu*"\nreplicas = 1\n'
    ).inventory

    assert placement(inventory, "registry.ollama.ai/library/tiny:latest") == Placement(("gpu1", "gpu2"), 1)
    assert placement(inventory, "registry.ollama.ai/library/other:latest") is None
