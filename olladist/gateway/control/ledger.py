"""Who holds what: the exact count of the fleet's running requests, whatever becomes of those who run them."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple


class Lease(NamedTuple):
    backend: int
    model: str


class Ledger:
    """Leases by worker and id. A count is the number of leases that are held, at every moment; never less than none."""

    def __init__(self) -> None:
        self._held: dict[int, dict[int, Lease]] = {}
        self._backends: dict[int, int] = {}
        self._models: dict[str, dict[int, int]] = {}  # for each model that runs, the backends

    def hold(self, worker: int, number: int, lease: Lease) -> None:
        """Raises ValueError where the worker holds a lease of that number: ids name one lease until it is released."""
        held = self._held.setdefault(worker, {})
        if number in held:
            raise ValueError(f"lease {number} is held already")
        held[number] = lease
        for counts in (self._backends, self._models.setdefault(lease.model, {})):
            counts[lease.backend] = counts.get(lease.backend, 0) + 1

    def holds(self, worker: int, number: int) -> bool:
        return number in self._held.get(worker, ())

    def release(self, worker: int, number: int) -> Lease | None:
        """The lease that ended; None where there was none, which is no error (the client left before the grant)."""
        lease = self._held.get(worker, {}).pop(number, None)
        if lease:
            self._uncount(lease)
        return lease

    def held(self, worker: int) -> Mapping[int, Lease]:
        """What a worker holds, by the number of each lease."""
        return self._held.get(worker, {})

    def all(self) -> Iterator[tuple[int, int, Lease]]:
        """Every lease with its worker and number."""
        return ((worker, number, lease) for worker, held in self._held.items() for number, lease in held.items())

    def release_all(self, worker: int) -> int:
        """Ends all that a worker held, when it is gone; returns how many."""
        held = self._held.pop(worker, {})
        for lease in held.values():
            self._uncount(lease)
        return len(held)

    @property
    def in_flight(self) -> Mapping[int, int]:
        """By backend; one where nothing runs is left out."""
        return self._backends

    def in_flight_model(self, model: str) -> Mapping[int, int]:
        """The same of one model."""
        return self._models.get(model, {})

    @property
    def models(self) -> frozenset[str]:
        """Those of which anything runs."""
        return frozenset(self._models)

    def models_in_flight(self, backend: int) -> dict[str, int]:
        return {model: counts[backend] for model, counts in self._models.items() if backend in counts}

    @property
    def total(self) -> int:
        return sum(map(len, self._held.values()))

    def _uncount(self, lease: Lease) -> None:
        # Entries go when they reach none, so that what the ledger remembers is bounded by what runs.
        counts = self._models[lease.model]
        for counter in (self._backends, counts):
            counter[lease.backend] -= 1
            if not counter[lease.backend]:
                del counter[lease.backend]
        if not counts:
            del self._models[lease.model]
