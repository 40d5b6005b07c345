"""Which hosts hold a model that is declared by a number of replicas: pure, and never a move for nothing."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from olladist.inventory.model import Inventory
from olladist.inventory.select import hosts_for
from olladist.modelstore.contents import StoreContents
from olladist.modelstore.source import FromHost, Recipe, Source, Sources
from olladist.ollama.digests import Digest
from olladist.ollama.manifest import Manifest

# Left free on a host's disk: manifests and recipes (kB), logs, and the temporary files of an Ollama that creates.
RESERVE = 32 << 20
# A model whose size nobody knows yet, as it is still in the registry, counts as this much: what the usual 7 to 12
# billion parameters at 4 bits take.
ASSUMED_SIZE = 8 * 10**9


@dataclass(frozen=True, slots=True)
class Candidate:
    """A host that may hold the model.

    `holds`: it has one of that name. `agrees`: it is whole, and the version that all shall have. `present_bytes` of it
    are there, staged ones too. `free_bytes` counts what unfinished copies take as free, so that an interrupted sync does
    not make a host look worse. `models` is the number of declared models it holds.
    """

    host: str
    holds: bool
    agrees: bool
    present_bytes: int
    free_bytes: int
    models: int


def choose(candidates: Iterable[Candidate], replicas: int, size: int) -> tuple[str, ...]:
    """The hosts for `replicas` copies of a model of `size` bytes, best first.

    A host that holds the model keeps it, one that agrees with the others first. Then comes the one that has the most of it, then hosts with room, the fewest
    models, the most free disk, and the order given.
    """

    def rank(candidate: Candidate) -> tuple[bool, bool, int, bool, int, int]:
        if candidate.holds:
            return (False, not candidate.agrees, -candidate.present_bytes, False, 0, 0)
        has_room = candidate.free_bytes >= size - candidate.present_bytes
        return (True, True, -candidate.present_bytes, not has_room, candidate.models, -candidate.free_bytes)

    return tuple(candidate.host for candidate in sorted(candidates, key=rank)[:replicas])


def place(
    inventory: Inventory, contents: Mapping[str, StoreContents], sources: Sources | None = None
) -> dict[str, tuple[str, ...]]:
    """The hosts that shall hold each declared model, by ModelName.key, in the order of the inventory.

    A model declared `on` hosts is on all of them; for `replicas` only hosts in `contents` can be chosen.
    """
    contents = {host: contents[host] for host in inventory.hosts if host in contents}
    matching = {model.name.key: tuple(h.name for h in hosts_for(inventory, model)) for model in inventory.models}
    counted = [model for model in inventory.models if model.replicas is not None]
    models = Counter(host for model in inventory.models if model.replicas is None for host in matching[model.name.key])
    models.update(host for model in counted for host, seen in contents.items() if model.name.key in seen.models)
    free = {host: _free(seen) for host, seen in contents.items()}
    for model in counted:
        key = model.name.key
        source = sources.of.get(key) if sources else None
        wanted = wanted_version(key, source, contents, matching[key])
        blobs = _blobs(wanted, source)
        size = sum(blobs.values()) or ASSUMED_SIZE
        present = {host: _present(blobs, contents[host]) for host in matching[key] if host in contents}
        candidates = [
            Candidate(
                host,
                holds=key in contents[host].models,
                agrees=wanted is not None and contents[host].holds(key, wanted.digest),
                present_bytes=present[host],
                free_bytes=free[host],
                models=models[host],
            )
            for host in present
        ]
        chosen = choose(candidates, model.replicas or 0, size)
        for host in chosen:
            if key not in contents[host].models:
                models[host] += 1
                free[host] -= size - present[host]
        matching[key] = tuple(host for host in matching[key] if host in chosen)
    return matching


def _free(seen: StoreContents) -> int:
    return seen.free_bytes - RESERVE + seen.partial_bytes + sum(seen.parts.values())


def wanted_version(
    key: str, source: Source, contents: Mapping[str, StoreContents], hosts: Collection[str]
) -> Manifest | None:
    """The version of a model that a sync will make `hosts` agree on, as far as it exists somewhere.

    Its source decides; for one from the registry the version that most of `hosts` hold whole.
    """
    if isinstance(source, FromHost):
        there = contents.get(source.host, StoreContents()).models.get(key)
        return there.manifest if there else None
    if isinstance(source, Recipe):
        manifests = {stored.manifest.digest: stored.manifest for s in contents.values() for stored in s.models.values()}
        made = Counter(seen.recipes.get(source.digest) for seen in contents.values())
        return next((manifests[digest] for digest, _ in made.most_common() if digest in manifests), None)
    whole = {host: manifest for host, seen in contents.items() if (manifest := seen.complete(key))}
    votes = Counter(manifest.digest for host, manifest in whole.items() if host in hosts)
    named = [seen.models[key].manifest for seen in contents.values() if key in seen.models]
    return max(whole.values() or named, key=lambda manifest: votes[manifest.digest], default=None)


def _blobs(wanted: Manifest | None, source: Source) -> dict[Digest, int]:
    """What is known of the model's blobs: from where it is already, or from what it will be made of."""
    if wanted:
        return {blob.digest: blob.size for blob in wanted.blobs}
    return {file.digest: file.size for file in source.files} if isinstance(source, Recipe) else {}


def _present(blobs: Mapping[Digest, int], seen: StoreContents) -> int:
    return sum(max(seen.blobs.get(digest, 0), min(seen.parts.get(digest, 0), size)) for digest, size in blobs.items())
