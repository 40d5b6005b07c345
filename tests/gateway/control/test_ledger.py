import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from olladist.gateway.control.ledger import Lease, Ledger

BACKENDS, MODELS = range(3), ("a", "b")
workers = st.integers(1, 3)
numbers = st.integers(0, 4)
leases = st.builds(Lease, st.sampled_from(BACKENDS), st.sampled_from(MODELS))


def test_an_id_names_one_lease() -> None:
    """A worker cannot hold two leases under one id, another worker can use the same id."""
    ledger = Ledger()
    ledger.hold(1, 7, Lease(0, "a"))
    ledger.hold(2, 7, Lease(0, "a"))

    with pytest.raises(ValueError, match="lease 7 is held"):
        ledger.hold(1, 7, Lease(1, "b"))

    assert (ledger.in_flight.get(0, 0), ledger.in_flight.get(1, 0), ledger.total) == (2, 0, 2)


class Machine(RuleBasedStateMachine):
    """The ledger against a plain dictionary of what is held, whatever workers do and however they end."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.held: dict[tuple[int, int], Lease] = {}

    @rule(worker=workers, number=numbers, lease=leases)
    def hold(self, worker: int, number: int, lease: Lease) -> None:
        if (worker, number) in self.held:
            with pytest.raises(ValueError, match="held already"):
                self.ledger.hold(worker, number, lease)
        else:
            self.ledger.hold(worker, number, lease)
            self.held[worker, number] = lease

    @rule(worker=workers, number=numbers)
    def release(self, worker: int, number: int) -> None:
        assert self.ledger.release(worker, number) == self.held.pop((worker, number), None)

    @rule(worker=workers)
    def release_all(self, worker: int) -> None:
        mine = [key for key in self.held if key[0] == worker]

        assert self.ledger.release_all(worker) == len(mine)

        for key in mine:
            del self.held[key]

    @invariant()
    def counts_are_exact(self) -> None:
        held = list(self.held.values())
        assert self.ledger.total == len(held)
        for backend in BACKENDS:
            assert self.ledger.in_flight.get(backend, 0) == sum(lease.backend == backend for lease in held)
            for model in MODELS:
                assert self.ledger.in_flight_model(model).get(backend, 0) == held.count(Lease(backend, model))
                assert self.ledger.models_in_flight(backend).get(model, 0) == held.count(Lease(backend, model))
        assert all(self.ledger.holds(*key) for key in self.held)


TestMachine = Machine.TestCase
