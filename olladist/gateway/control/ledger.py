"""Who holds what: the exact count of the fleet's running requests, whatever becomes of those who run them."""

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lease:
    backend: int
    model: str


class Ledger:
    """Leases by worker and id. A count is the number of leases that are held, at every moment; never less than none."""

    def __init__(self) -> None:
        self._held: dict[int, dict[int, Lease]] = {}
        self._backends: Counter[int] = Counter()
        self._models: Counter[Lease] = Counter()

    def hold(self, worker: int, number: int, lease: Lease) -> None:
        """Raises ValueError where the worker holds a lease of that number: ids name one lease until it is released."""
        held = self._held.setdefault(worker, {})
        if number in held:
            raise ValueError(f"lease {number} is held already")
        held[number] = lease
        self._backends[lease.backend] += 1
        self._models[lease] += 1

    def holds(self, worker: int, number: int) -> bool:
        return number in self._held.get(worker, ())

    def release(self, worker: int, number: int) -> Lease | None:
        """The lease that ended; None where there was none, which is no error (the client left before the grant)."""
        lease = self._held.get(worker, {}).pop(number, None)
        if lease:
            self._uncount(lease)
        return lease

    def release_all(self, worker: int) -> int:
        """Ends all that a worker held, when it is gone; returns how many."""
        held = self._held.pop(worker, {})
        for lease in held.values():
            self._uncount(lease)
        return len(held)

    def in_flight(self, backend: int) -> int:
        return self._backends.get(backend, 0)

    def in_flight_model(self, backend: int, model: str) -> int:
        return self._models.get(Lease(backend, model), 0)

    def models_in_flight(self, backend: int) -> dict[str, int]:
        return {lease.model: count for lease, count in self._models.items() if lease.backend == backend}

    @property
    def total(self) -> int:
        return sum(map(len, self._held.values()))

    def _uncount(self, lease: Lease) -> None:
        # Entries go when they reach none, so that what the ledger remembers is bounded by what runs.
        self._backends[lease.backend] -= 1
        if not self._backends[lease.backend]:
            del self._backends[lease.backend]
        self._models[lease] -= 1
        if not self._models[lease]:
            del self._models[lease]
