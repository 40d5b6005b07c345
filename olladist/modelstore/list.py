"""What `models ls` shows: every model on every host, and where that is not what the inventory says."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from olladist.inventory.model import Inventory
from olladist.modelstore.contents import StoreContents
from olladist.modelstore.place import place, wanted_version
from olladist.modelstore.source import Recipe, Source, Sources
from olladist.ollama.digests import Digest
from olladist.ollama.manifest import Manifest
from olladist.ollama.names import ModelName


class Drift(StrEnum):
    """How a row differs from what is declared."""

    MISSING = "missing"  # declared for this host, and not there
    UNDECLARED = "undeclared"  # there, and not declared for this host
    DIFFERS = "differs"  # another version than the one that all shall have
    INCOMPLETE = "incomplete"  # Ollama lists it, and cannot run it: blobs are missing or cut short


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model on one host; `digest` is None and `size` 0 where it is missing. Without `drift` all is as declared."""

    model: ModelName
    host: str
    digest: Digest | None = None
    size: int = 0
    drift: tuple[Drift, ...] = ()


def rows(
    inventory: Inventory, contents: Mapping[str, StoreContents], sources: Sources | None = None
) -> tuple[ModelRow, ...]:
    """By model, then in the inventory's order of hosts; of hosts that are not in `contents` nothing is known.

    `sources` let a model that comes from a file or a host be compared with that; without them the version that most
    hosts hold is the one the others differ from.
    """
    contents = {host: contents[host] for host in inventory.hosts if host in contents}
    placed = place(inventory, contents, sources)
    names = {stored.name.key: stored.name for seen in contents.values() for stored in seen.models.values()}
    names |= {model.name.key: model.name for model in inventory.models}
    found = []
    for key, name in sorted(names.items(), key=lambda item: (str(item[1]).lower(), item[0])):
        source = sources.of.get(key) if sources else None
        hosts = placed.get(key, ())
        wanted = wanted_version(key, source, contents, hosts or contents)
        for host, seen in contents.items():
            if key in seen.models:
                found.append(_row(host, key, seen, wanted, source, declared=host in hosts))
            elif host in hosts:
                found.append(ModelRow(name, host, drift=(Drift.MISSING,)))
    return tuple(found)


def _row(
    host: str, key: str, seen: StoreContents, wanted: Manifest | None, source: Source, *, declared: bool
) -> ModelRow:
    name, manifest = seen.models[key].name, seen.models[key].manifest
    # Where a recipe has not become a model yet, whatever has the name was made of something else.
    differs = manifest.digest != wanted.digest if wanted else isinstance(source, Recipe)
    drift = (
        (Drift.UNDECLARED, not declared),
        (Drift.DIFFERS, differs),
        (Drift.INCOMPLETE, bool(seen.missing(manifest))),
    )
    return ModelRow(name, host, manifest.digest, manifest.size, tuple(kind for kind, holds in drift if holds))
