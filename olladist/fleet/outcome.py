"""What came of a change to the fleet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from olladist.errors import HostError, OlladistError
from olladist.fleet.change import Plans, blocked
from olladist.fleet.models import ModelPlan
from olladist.fleet.results import exit_status
from olladist.inventory.model import Host


@dataclass(frozen=True, slots=True)
class Synced:
    """`outcomes` is None where nothing was carried out; `declined`: the person was asked and said no."""

    hosts: Sequence[Host]
    plan: ModelPlan
    outcomes: Mapping[str, HostError | None] | None = None
    declined: bool = False

    @property
    def results(self) -> Mapping[str, object]:
        """The chosen hosts, each with its error or with anything else."""
        results = {host.name: self.plan.stores.get(host.name) for host in self.hosts}
        return _with_errors(results, self.outcomes or {})

    @property
    def exit_status(self) -> int:
        if self.declined:
            return 1
        return exit_status(self.results) or int(bool(self.plan.plan.problems))


@dataclass(frozen=True, slots=True)
class Outcome:
    """`planned` is what was planned; `carried` has an error for every host on which that was not carried out to its end."""

    planned: Plans
    carried: Plans | None = None
    models: ModelPlan | None = None
    synced: Mapping[str, HostError | None] | None = None
    declined: bool = False

    @property
    def results(self) -> Mapping[str, object]:
        """Each host's first error, or anything else where there is none."""
        results = dict(blocked(self.planned) if self.carried is None else self.carried)
        return _with_errors(_with_errors(results, self.models.stores if self.models else {}), self.synced or {})

    @property
    def problems(self) -> tuple[OlladistError, ...]:
        """What stands against models, beside the hosts that failed."""
        return self.models.plan.problems if self.models else ()

    @property
    def exit_status(self) -> int:
        if self.declined:
            return 1
        return exit_status(self.results) or int(bool(self.problems))


def _with_errors(results: Mapping[str, object], later: Mapping[str, object]) -> Mapping[str, object]:
    """A host's first error stays; one that came later counts where there was none."""
    errors = {host: error for host, error in later.items() if isinstance(error, HostError)}
    return {
        host: errors.get(host, result) if not isinstance(result, HostError) else result
        for host, result in results.items()
    }
