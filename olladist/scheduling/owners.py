"""Which machine has which conversation in the cache of a slot."""

from itertools import islice

# So many conversations are remembered, far more than all slots of a fleet have in their caches; then the older half is forgotten.
OWNERS = 50_000


class Owners:
    """A conversation is a number, and 0 is none."""

    __slots__ = ("_machines",)

    def __init__(self) -> None:
        self._machines: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._machines)

    def copied(self) -> "Owners":
        owners = Owners()
        owners._machines = dict(self._machines)
        return owners

    def of(self, conversation: int) -> int | None:
        return self._machines.get(conversation) if conversation else None

    def own(self, conversation: int, machine: int) -> None:
        """It went there last."""
        if not conversation:
            return
        self._machines.pop(conversation, None)
        self._machines[conversation] = machine
        if len(self._machines) > OWNERS:
            for oldest in list(islice(self._machines, OWNERS // 2)):
                del self._machines[oldest]
