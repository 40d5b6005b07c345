"""What must happen so that models are where they shall be: pure, stable, and empty once it has happened."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from olladist.inventory.model import DeclaredModel, Inventory
from olladist.modelstore.contents import StoreContents
from olladist.modelstore.plan import SyncPlan, plan_sync
from olladist.modelstore.source import FromHost, Sources


def plan_copy(
    inventory: Inventory, contents: Mapping[str, StoreContents], key: str, source: str, targets: Sequence[str]
) -> SyncPlan:
    """The steps that bring what `source` has under a name to `targets`, whatever they have under it."""
    name = contents[source].models[key].name
    one = replace(inventory, models=(DeclaredModel(name, tuple(targets)),))
    return plan_sync(one, contents, Sources({key: FromHost(source)}), limit=targets)
