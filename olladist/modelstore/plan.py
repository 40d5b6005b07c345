"""What must happen so that the declared models are on the declared hosts: pure, stable, and empty once it has happened."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from olladist.errors import OlladistError, StoreError, UsageError
from olladist.inventory.model import DeclaredModel, Inventory
from olladist.modelstore.contents import StoreContents
from olladist.modelstore.place import RESERVE, place
from olladist.modelstore.source import FromHost, Recipe, Sources
from olladist.modelstore.steps import Copy, Create, Follow, Pull, Step, Transfer, bytes_to_move
from olladist.ollama.digests import Digest
from olladist.ollama.manifest import Layer, Manifest
from olladist.ollama.names import ModelName
from olladist.units import size


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """Steps in an order in which one host can take its own; `problems` are models and hosts that had to be left out.

    `holders` and `files` tell where any blob can be had, for one that vanishes while the plan is carried out.
    """

    steps: tuple[Step, ...] = ()
    problems: tuple[OlladistError, ...] = ()
    holders: Mapping[Digest, Sequence[str]] = field(default_factory=dict, repr=False, compare=False)
    files: Mapping[Digest, Path] = field(default_factory=dict, repr=False, compare=False)

    @property
    def empty(self) -> bool:
        return not self.steps

    @property
    def size(self) -> int:
        """Bytes to move, as far as they are known beforehand."""
        return sum(bytes_to_move(step) for step in self.steps)


def plan_sync(
    inventory: Inventory,
    contents: Mapping[str, StoreContents],
    sources: Sources,
    *,
    limit: Collection[str] | None = None,
) -> SyncPlan:
    """The steps from what `contents` (every host that could be reached) shows to what the inventory declares.

    With `limit` only those hosts get steps; placement and sources still see all of them. Nothing is ever removed.
    """
    planning = _Planning(inventory, contents, sources)
    placed = place(inventory, contents, sources)
    models, problems = _bases_first(inventory.models, sources)
    planning.problems += problems
    for model in models:
        chosen = placed[model.name.key]
        if model.replicas is not None and len(chosen) < model.replicas:
            planning.problems.append(
                UsageError(f"{model.name}: {model.replicas} replicas are declared, {len(chosen)} hosts can hold it")
            )
        reached = (host for host in chosen if host in contents)
        planning.add(model, [host for host in reached if limit is None or host in limit])
    return SyncPlan(tuple(planning.steps), tuple(planning.problems), planning.holders, planning.files)


def plan_pull(names: Sequence[ModelName], hosts: Sequence[str]) -> SyncPlan:
    """A fresh pull of models on hosts, whatever they hold."""
    return SyncPlan(tuple(Pull(host, name) for name in names for host in hosts))


def transfers(
    blobs: Iterable[Layer],
    seen: StoreContents,
    *,
    files: Mapping[Digest, Path],
    holders: Callable[[Layer], Sequence[str]],
) -> tuple[Transfer, ...]:
    """One per blob that `seen` lacks, with every source it can come from."""
    missing = {blob.digest: blob for blob in blobs if not seen.has(blob)}
    staged = {digest: seen.parts.get(digest, 0) for digest in missing}
    return tuple(
        Transfer(
            blob,
            staged[digest] if staged[digest] <= blob.size else 0,
            files.get(digest),
            tuple(holders(blob)),
        )
        for digest, blob in missing.items()
    )


class _Planning:
    """What has been planned so far: space and blobs that are promised already count for the steps that follow."""

    def __init__(self, inventory: Inventory, contents: Mapping[str, StoreContents], sources: Sources) -> None:
        self.contents = {host: contents[host] for host in inventory.hosts if host in contents}
        self.sources = sources
        self.steps: list[Step] = []
        self.problems: list[OlladistError] = []
        self.free = {host: seen.free_bytes - RESERVE for host, seen in self.contents.items()}
        self.promised: dict[str, set[Digest]] = {host: set() for host in self.contents}
        recipes = [source for source in sources.of.values() if isinstance(source, Recipe)]
        self.files = {f.digest: f.path for recipe in recipes for f in (*recipe.files, *recipe.adapters)}
        self.holders: dict[Digest, list[str]] = {}
        self.manifests: dict[Digest, Manifest] = {}
        for host, seen in self.contents.items():
            self.manifests |= {stored.manifest.digest: stored.manifest for stored in seen.models.values()}
            for digest in seen.blobs:
                self.holders.setdefault(digest, []).append(host)

    def add(self, model: DeclaredModel, hosts: Sequence[str]) -> None:
        """Steps for one model; a problem instead where its source is not there."""
        key = model.name.key
        if problem := self.sources.problems.get(key):
            self.problems.append(problem)
            return
        source = self.sources.of.get(key)
        if isinstance(source, FromHost):
            if manifest := self._on_host(model, source.host):
                self._copy(model, manifest, hosts)
        elif isinstance(source, Recipe):
            if manifest := self._made_before(source):
                self._copy(model, manifest, hosts, source.digest)
            else:
                self._create(model, source, hosts)
        elif manifest := self._most_held(key, hosts):
            self._copy(model, manifest, hosts)
        else:
            self.steps += [Pull(host, self._spelled(host, model)) for host in hosts]

    def _on_host(self, model: DeclaredModel, host: str) -> Manifest | None:
        during, seen = f"planning {model.name}", self.contents.get(host)
        if seen is None:
            self.problems.append(StoreError(host, during, "it is the model's source and was not reached"))
            return None
        if model.name.key not in seen.models:
            hint = f"pull or create {model.name} there, or declare another source"
            self.problems.append(StoreError(host, during, "it is the model's source and does not have it", hint=hint))
            return None
        manifest = seen.models[model.name.key].manifest
        if not self._obtainable(manifest):
            missing = len(seen.missing(manifest))
            hint = f"ollama pull {model.name} on {host} fetches them again"
            self.problems.append(StoreError(host, during, f"{missing} of its blobs are on no host", hint=hint))
            return None
        return manifest

    def _made_before(self, recipe: Recipe) -> Manifest | None:
        """The manifest that was made of this recipe and that can still be had; the most remembered one of several."""
        remembered = Counter(
            seen.recipes[recipe.digest] for seen in self.contents.values() if recipe.digest in seen.recipes
        )
        made = (self.manifests.get(digest) for digest, _ in remembered.most_common())
        return next((manifest for manifest in made if manifest and self._obtainable(manifest)), None)

    def _most_held(self, key: str, hosts: Sequence[str]) -> Manifest | None:
        """The version most of `hosts` hold, then most of all hosts, then the first host in the inventory's order."""
        held = {host: seen.models[key].manifest for host, seen in self.contents.items() if key in seen.models}
        whole = {host: manifest for host, manifest in held.items() if self._obtainable(manifest)}
        votes = Counter(whole[host].digest for host in hosts if host in whole)
        all_votes = Counter(manifest.digest for manifest in whole.values())
        return max(whole.values(), key=lambda m: (votes[m.digest], all_votes[m.digest]), default=None)

    def _obtainable(self, manifest: Manifest) -> bool:
        return all(blob.digest in self.files or self._holders_of(blob) for blob in manifest.blobs)

    def _holders_of(self, blob: Layer) -> list[str]:
        return [host for host in self.holders.get(blob.digest, ()) if self.contents[host].has(blob)]

    def _copy(self, model: DeclaredModel, manifest: Manifest, hosts: Sequence[str], recipe: str = "") -> None:
        for host in hosts:
            seen = self.contents[host]
            if seen.holds(model.name.key, manifest.digest):
                continue
            needed = self._transfers(host, manifest.blobs)
            if self._take_room(host, model.name, needed):
                there = seen.models.get(model.name.key)
                replaces = there.manifest.digest if there else None
                self.steps.append(Copy(host, self._spelled(host, model), manifest, needed, recipe, replaces))

    def _create(self, model: DeclaredModel, recipe: Recipe, hosts: Sequence[str]) -> None:
        """The host with the least to send makes the model, one that has its base if possible; the others follow."""
        blobs = [Layer("", file.digest, file.size) for file in (*recipe.files, *recipe.adapters)]
        needed = {host: self._transfers(host, blobs) for host in hosts}
        fitting = [host for host in hosts if self._take_room(host, model.name, needed[host])]
        if not fitting:
            return
        maker = min(fitting, key=lambda host: (not self._has_base(host, recipe), sum(t.left for t in needed[host])))
        self.steps.append(Create(maker, self._spelled(maker, model), recipe, needed[maker]))
        followers = (host for host in fitting if host != maker)
        self.steps += [Follow(host, self._spelled(host, model), maker, recipe, needed[host]) for host in followers]

    def _spelled(self, host: str, model: DeclaredModel) -> ModelName:
        """The name as it is on the host: two spellings of one name never lie beside each other (server/routes.go)."""
        there = self.contents[host].models.get(model.name.key)
        return there.name if there else model.name

    def _has_base(self, host: str, recipe: Recipe) -> bool:
        if recipe.base is None:
            return True
        planned = any(step.host == host and step.model.key == recipe.base.key for step in self.steps)
        return planned or self.contents[host].complete(recipe.base.key) is not None

    def _transfers(self, host: str, blobs: Iterable[Layer]) -> tuple[Transfer, ...]:
        unpromised = [blob for blob in blobs if blob.digest not in self.promised[host]]
        return transfers(unpromised, self.contents[host], files=self.files, holders=self._holders_of)

    def _take_room(self, host: str, model: ModelName, needed: Sequence[Transfer]) -> bool:
        """Promises the space for `needed` on a host; without it the problem is noted."""
        if needed and (why := self.contents[host].closed):
            self.problems.append(
                StoreError(host, f"planning {model}", why, hint="look at what models_dir says for this host")
            )
            return False
        need = sum(transfer.left for transfer in needed)
        if need > max(self.free[host], 0):
            hint = "remove models there, declare fewer, or set models_dir to a larger disk"
            there = max(self.free[host] + RESERVE, 0)
            cause = f"not enough space: {size(need)} needed and {size(RESERVE)} to spare, {size(there)} free"
            self.problems.append(StoreError(host, f"planning {model}", cause, hint=hint))
            return False
        self.free[host] -= need
        self.promised[host].update(transfer.blob.digest for transfer in needed)
        return True


def _bases_first(models: Iterable[DeclaredModel], sources: Sources) -> tuple[list[DeclaredModel], list[OlladistError]]:
    """The models, each after the declared one it is based on; those that are based on each other are problems."""
    by_key = {model.name.key: model for model in models}
    ordered: dict[str, DeclaredModel] = {}
    circular: dict[str, DeclaredModel] = {}
    problems: list[OlladistError] = []
    for start in by_key:
        chain: dict[str, DeclaredModel] = {}
        key = None if start in circular else start
        while key in by_key and key not in ordered and key not in chain and key not in circular:
            chain[key] = by_key[key]
            source = sources.of.get(key)
            key = source.base.key if isinstance(source, Recipe) and source.base else None
        if key in chain or key in circular:
            circular |= chain
            names = " and ".join(str(model.name) for model in chain.values())
            cause = "FROM leads round in a circle"
            problems.append(UsageError(f"{names}: {cause}", hint="it must end in a file, or in a model of a registry"))
        else:
            ordered |= dict(reversed(chain.items()))
    return list(ordered.values()), problems
