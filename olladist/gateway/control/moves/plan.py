"""What must happen so that models are where they shall be: pure, stable, and empty once it has happened."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from olladist.errors import OlladistError, UsageError
from olladist.inventory.model import DeclaredModel, Inventory
from olladist.modelstore.contents import StoreContents, Stored
from olladist.modelstore.place import place
from olladist.modelstore.plan import SyncPlan, plan_sync
from olladist.modelstore.source import FromHost, Source, Sources
from olladist.modelstore.steps import Copy, Create, Follow, Pull, Step
from olladist.ollama.digests import Digest
from olladist.ollama.manifest import Manifest
from olladist.ollama.names import ModelName
from olladist.units import size

# Each but the last one adds a copy that there was no room for before; more than a few means disks that are full to the brim.
_ROUNDS = 10


@dataclass(frozen=True, slots=True)
class Remove:
    """Deletes a copy that nobody wants, once those that are wanted are there."""

    host: str
    model: ModelName
    manifest: Manifest

    def describe(self) -> str:
        return f"delete {self.model} on {self.host}: {size(self.manifest.size)}"


Deed = Step | Remove


@dataclass(frozen=True, slots=True)
class MovePlan:
    """`deeds` in their order; `sync` tells where blobs can be had. `why` is by ModelName.key."""

    deeds: tuple[Deed, ...] = ()
    problems: tuple[OlladistError, ...] = ()
    sync: SyncPlan = field(default_factory=SyncPlan, repr=False)
    why: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def by_model(self) -> list[list[Deed]]:
        """What can be done at the same time: deeds of one model that follow each other."""
        return [list(same) for _, same in groupby(self.deeds, key=lambda deed: deed.model.key)]


def plan_copy(
    inventory: Inventory, contents: Mapping[str, StoreContents], key: str, source: str, targets: Sequence[str]
) -> SyncPlan:
    """The steps that bring what `source` has under a name to `targets`, whatever they have under it."""
    name = contents[source].models[key].name
    one = replace(inventory, models=(DeclaredModel(name, tuple(targets)),))
    return plan_sync(one, contents, Sources({key: FromHost(source)}), limit=targets)


def plan_rebalance(
    inventory: Inventory,
    contents: Mapping[str, StoreContents],
    sources: Sources,
    *,
    times: Mapping[tuple[str, str], float] | None = None,
    drained: Collection[str] = (),
    prune: bool = False,
) -> MovePlan:
    """From what `contents` (of every host that could be read) shows to what the inventory wants.

    Declared models where they are declared; others on as many hosts as `[gateway] replicas`; every copy of a name the same: what most
    hosts hold, the newest where that is no majority (`times` by host and key). With `prune` copies beyond that are deleted, where those
    that are wanted are, or will be, there. Nothing else is ever removed. Hosts that are `drained` get nothing that is not declared for them.
    """
    contents = {host: contents[host] for host in inventory.hosts if host in contents}
    deeds: tuple[Deed, ...] = ()
    # What one model brings makes room for another that shares its blobs: so it is planned again, as it will be then.
    for _ in range(_ROUNDS):
        known = {deed.model.key for deed in deeds if isinstance(deed, Create | Follow | Pull)}
        plan = _plan_once(inventory, contents, sources, times or {}, known, drained, prune=prune)
        deeds += plan.deeds
        if not plan.deeds:
            break
        contents = _after(contents, plan.deeds)
    return replace(plan, deeds=deeds)


def _plan_once(
    inventory: Inventory,
    contents: Mapping[str, StoreContents],
    sources: Sources,
    times: Mapping[tuple[str, str], float],
    coming: Collection[str],
    drained: Collection[str],
    *,
    prune: bool,
) -> MovePlan:
    """`coming` are models of which it is not known yet what they will be."""
    chosen, problems = _undeclared(inventory, contents, times)
    count = inventory.gateway.replicas
    others = [
        DeclaredModel(contents[host].models[key].name, _open_to(key, inventory, contents, drained), count)
        for key, host in chosen.items()
    ]
    everything = replace(inventory, models=(*inventory.models, *others))
    wanted: dict[str, Source] = {**sources.of, **{key: FromHost(host) for key, host in chosen.items()}}
    placed = place(everything, contents, Sources(wanted))
    models = []
    for model in everything.models:
        goal = placed[model.name.key]
        holders = [host for host in contents if model.name.key in contents[host].models]
        declared = model.name.key not in chosen
        if declared and model.replicas is not None and len(goal) < model.replicas:
            problems.append(
                UsageError(f"{model.name}: {model.replicas} replicas are declared, {len(goal)} hosts can hold it")
            )
        keep = goal if prune else tuple(host for host in inventory.hosts if host in goal or host in holders)
        if keep and model.name.key not in coming:
            models.append(replace(model, on=keep, replicas=None))
    sync = plan_sync(replace(inventory, models=tuple(models)), contents, Sources(wanted, sources.problems))
    removes = _removes(models, contents, sync, wanted) if prune else ()
    deeds = _in_order((*sync.steps, *removes), models)
    return MovePlan(deeds, (*problems, *sync.problems), sync, _reasons(inventory, chosen))


def _after(contents: Mapping[str, StoreContents], deeds: Sequence[Deed]) -> dict[str, StoreContents]:
    """The stores as the deeds leave them, as far as that is known."""
    after = dict(contents)
    for deed in deeds:
        seen = after[deed.host]
        if isinstance(deed, Remove):
            models = {key: stored for key, stored in seen.models.items() if key != deed.model.key}
            after[deed.host] = replace(seen, models=models)
        elif isinstance(deed, Copy):
            models = {**seen.models, deed.model.key: Stored(deed.model, deed.manifest)}
            blobs = {**seen.blobs, **{blob.digest: blob.size for blob in deed.manifest.blobs}}
            free = seen.free_bytes - sum(transfer.left for transfer in deed.transfers)
            after[deed.host] = replace(seen, models=models, blobs=blobs, free_bytes=free)
    return after


def reason(plan: MovePlan, deed: Deed) -> str:
    """Why a deed is in the plan, in words."""
    if isinstance(deed, Remove):
        return f"not among the hosts that shall have it ({plan.why[deed.model.key]})"
    if isinstance(deed, Copy) and deed.replaces is not None:
        same = deed.replaces == deed.manifest.digest
        return "blobs of it are missing or damaged there" if same else "the name means something else on most hosts"
    return plan.why[deed.model.key]


def _undeclared(
    inventory: Inventory, contents: Mapping[str, StoreContents], times: Mapping[tuple[str, str], float]
) -> tuple[dict[str, str], list[OlladistError]]:
    """For each model that no one has declared, the host whose content counts."""
    declared = {model.name.key for model in inventory.models}
    everywhere: dict[Digest, int] = {}
    for seen in contents.values():
        everywhere |= seen.blobs
    chosen: dict[str, str] = {}
    problems: list[OlladistError] = []
    for key in dict.fromkeys(key for seen in contents.values() for key in seen.models if key not in declared):
        holders = {host: seen.models[key].manifest for host, seen in contents.items() if key in seen.models}
        whole = [
            host
            for host, manifest in holders.items()
            if all(any(seen.has(blob) for seen in contents.values()) for blob in manifest.blobs)
        ]
        votes = Counter(holders[host].digest for host in whole)
        if not whole:
            host = next(iter(holders))
            problems.append(UsageError(f"{contents[host].models[key].name}: some of its blobs are on no host"))
            continue
        chosen[key] = max(whole, key=lambda host: (votes[holders[host].digest], times.get((host, key), 0.0)))
    return chosen, problems


def _open_to(
    key: str, inventory: Inventory, contents: Mapping[str, StoreContents], drained: Collection[str]
) -> tuple[str, ...]:
    """The hosts that may have it: those that have, and those that get new work."""
    return tuple(h for h in inventory.hosts if h not in drained or (h in contents and key in contents[h].models))


def _removes(
    models: Sequence[DeclaredModel],
    contents: Mapping[str, StoreContents],
    sync: SyncPlan,
    wanted: Mapping[str, Source],
) -> tuple[Remove, ...]:
    """The copies beside the goal, where all of the goal will have one and the same content: by the steps, or already."""
    coming = {(step.host, step.model.key): _becomes(step) for step in sync.steps}
    removes = []
    for model in models:
        key = model.name.key
        after = {coming.get((host, key)) or _has(contents.get(host), key) for host in model.on}
        if len(after) != 1 or None in after:
            continue
        for host, seen in contents.items():
            if host not in model.on and key in seen.models:
                stored = seen.models[key]
                removes.append(Remove(host, stored.name, stored.manifest))
    return tuple(removes)


def _becomes(step: Step) -> str:
    """What is there after a step: a digest, or what stands for the one that nobody knows yet."""
    match step:
        case Copy():
            return step.manifest.digest
        case Create() | Follow():
            return step.recipe.digest
        case Pull():
            return "as the registry has it"


def _has(seen: StoreContents | None, key: str) -> str | None:
    manifest = seen.complete(key) if seen else None
    return manifest.digest if manifest else None


def _in_order(deeds: Sequence[Deed], models: Sequence[DeclaredModel]) -> tuple[Deed, ...]:
    """Those of one model together, in the order in which the sync has them; a removal after all else of its model."""
    first = {deed.model.key: number for number, deed in reversed(list(enumerate(deeds)))}
    return tuple(sorted(deeds, key=lambda deed: (first[deed.model.key], isinstance(deed, Remove))))


def _reasons(inventory: Inventory, chosen: Mapping[str, str]) -> dict[str, str]:
    words = dict.fromkeys(chosen, f"not declared: [gateway] replicas = {inventory.gateway.replicas}")
    for model in inventory.models:
        on = " and ".join(model.on)
        words[model.name.key] = (
            f"declared on {on}" if model.replicas is None else f"declared with replicas = {model.replicas}"
        )
    return words
