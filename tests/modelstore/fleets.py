"""Inventories and store contents as values, for the pure parts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from olladist.inventory.model import DeclaredModel, Host, Inventory
from olladist.modelstore.contents import StoreContents, Stored
from olladist.modelstore.source import FromHost, LocalFile, Recipe, Source, Sources
from olladist.ollama.manifest import Manifest, parse_manifest
from olladist.ollama.names import parse_name
from tests.modelstore.stores import digest, manifest_of

GB = 10**9


def fleet(hosts: int | Sequence[str], *models: DeclaredModel) -> Inventory:
    """An inventory of gpu1, gpu2, … with these models."""
    names = [f"gpu{n + 1}" for n in range(hosts)] if isinstance(hosts, int) else hosts
    return Inventory(Path("inventory.toml"), "lab", {name: Host(name, name) for name in names}, {}, tuple(models))


def declared(name: str, *on: str, replicas: int | None = None, source: str | None = None) -> DeclaredModel:
    return DeclaredModel(parse_name(name), on or ("*",), replicas, source)


def model(*contents: bytes) -> Manifest:
    return parse_manifest(manifest_of(*contents))


def holding(
    models: Mapping[str, Manifest] | None = None,
    *,
    blobs: Sequence[bytes] = (),
    without: Sequence[bytes] = (),
    parts: Mapping[bytes, int] | None = None,
    recipes: Mapping[str, Manifest] | None = None,
    free: int = 100 * GB,
    closed: str = "",
) -> StoreContents:
    """A store with these models and their blobs but `without`, and with the further `blobs`."""
    stored = {}
    sizes = {digest(blob): len(blob) for blob in blobs}
    for text, manifest in (models or {}).items():
        name = parse_name(text)
        stored[name.key] = Stored(name, manifest)
        sizes |= {blob.digest: blob.size for blob in manifest.blobs}
    return StoreContents(
        models=stored,
        blobs={key: size for key, size in sizes.items() if key not in {digest(blob) for blob in without}},
        parts={digest(blob): length for blob, length in (parts or {}).items()},
        recipes={recipe: manifest.digest for recipe, manifest in (recipes or {}).items()},
        free_bytes=free,
        owner="998:998",
        closed=closed,
    )


def recipe(digest_: str, *files: bytes, base: str | None = None) -> Recipe:
    """A recipe of files that lie on this machine."""
    local = tuple(
        LocalFile(Path(f"/models/{number}.gguf"), digest(content), len(content)) for number, content in enumerate(files)
    )
    return Recipe(digest_, "support.gguf", local, base=parse_name(base) if base else None)


def sources(**of: Source) -> Sources:
    return Sources({parse_name(name).key: source for name, source in of.items()})


__all__ = ["GB", "FromHost", "declared", "digest", "fleet", "holding", "model", "recipe", "sources"]
