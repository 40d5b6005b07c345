"""What a sync does, step by step, as values that say what they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from olladist.modelstore.source import Recipe
from olladist.ollama.digests import Digest
from olladist.ollama.manifest import Layer, Manifest
from olladist.ollama.names import ModelName
from olladist.units import size


@dataclass(frozen=True, slots=True)
class Transfer:
    """One blob that must reach a host: `staged` bytes of it are there. Sources are tried in their order, `file` first."""

    blob: Layer
    staged: int = 0
    file: Path | None = None
    holders: tuple[str, ...] = ()

    @property
    def left(self) -> int:
        return self.blob.size - self.staged


@dataclass(frozen=True, slots=True)
class Copy:
    """Puts a manifest that is known, and the blobs that are missing for it, on a host.

    `recipe` is remembered there with it; `replaces` is the digest of the model of that name that is there now.
    """

    host: str
    model: ModelName
    manifest: Manifest
    transfers: tuple[Transfer, ...]
    recipe: str = ""
    replaces: Digest | None = None

    def describe(self) -> str:
        blobs = f"{len(self.transfers)} of {len(self.manifest.blobs)} blobs"
        verb = "copy" if self.replaces is None else "replace" if self.replaces != self.manifest.digest else "repair"
        what = f"{verb} {self.model} {'to' if verb == 'copy' else 'on'} {self.host}"
        if not self.transfers:
            return f"{what}: all {len(self.manifest.blobs)} blobs are there"
        return f"{what}: {blobs}, {_amount(self.transfers)}"


@dataclass(frozen=True, slots=True)
class Create:
    """Sends the files of a recipe to a host and lets its Ollama make the model of them."""

    host: str
    model: ModelName
    recipe: Recipe
    transfers: tuple[Transfer, ...]

    def describe(self) -> str:
        what = f"create {self.model} on {self.host} from {self.recipe.source}"
        if not self.recipe.files and not self.recipe.adapters:
            return f"{what}, based on {self.recipe.base}"
        return f"{what}: {_amount(self.transfers)}" if self.transfers else f"{what}: its files are there"


@dataclass(frozen=True, slots=True)
class Follow:
    """Copies what a Create of the same model makes on `maker`; its files are sent meanwhile."""

    host: str
    model: ModelName
    maker: str
    recipe: Recipe
    transfers: tuple[Transfer, ...]

    def describe(self) -> str:
        sent = f"{_amount(self.transfers)}, then " if self.transfers else ""
        return f"copy {self.model} to {self.host}: {sent}what {self.maker} has made of it"


@dataclass(frozen=True, slots=True)
class Pull:
    """Lets the host's own Ollama fetch the model from its registry."""

    host: str
    model: ModelName

    def describe(self) -> str:
        return f"pull {self.model} on {self.host} from {self.model.host}"

    @property
    def transfers(self) -> tuple[Transfer, ...]:
        return ()


Step = Copy | Create | Follow | Pull


def bytes_to_move(step: Step) -> int:
    """What is known of it beforehand; 0 for a pull."""
    return sum(transfer.left for transfer in step.transfers)


def _amount(transfers: Sequence[Transfer]) -> str:
    origins = dict.fromkeys(str(t.file.name) if t.file else t.holders[0] for t in transfers)
    staged = sum(transfer.staged for transfer in transfers)
    resumed = f" ({size(staged)} more are there already)" if staged else ""
    return f"{size(sum(transfer.left for transfer in transfers))} from {' and '.join(origins)}{resumed}"
